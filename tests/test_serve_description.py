"""The OpenAPI description holds: requests made from it, and against it, are answered as it says."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from .serving import in_thread, picture

PICTURES = st.sampled_from([picture(1), picture(2, form="JPEG"), picture(3, form="WEBP")])
for kind in ("image/jpeg", "image/png", "image/webp", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, PICTURES)


@pytest.fixture(scope="module")
def server(tiny_run):
    with in_thread(tiny_run) as running:
        yield running


@pytest.fixture(scope="module")
def api(server):
    described = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
    return schemathesis.openapi.from_dict(described)


OPERATIONS = [("/predict", "POST"), ("/health", "GET"), ("/info", "GET"), ("/metrics", "GET"), ("/openapi.json", "GET")]
# No schema can say whether some bytes are a picture, and one picture among many that are none makes a good request.
UNDECIDABLE = [positive_data_acceptance, negative_data_rejection]
MODES = {mode.value: mode for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)}


# Of the others nothing can be asked wrongly.
ASKED = [
    (*operation, mode) for operation in OPERATIONS for mode in MODES if mode == "positive" or "/predict" in operation
]


@pytest.mark.parametrize(("path", "method", "mode"), ASKED)
def test_every_path_answers_as_described(server, api, path, method, mode):
    operation = api[path][method]

    @settings(
        max_examples=60 if path == "/predict" else 2,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=MODES[mode]))
    def ask(case):
        answer = case.call_and_validate(base_url=server.url, excluded_checks=UNDECIDABLE)
        seen.append(answer.status_code)

    seen = []
    ask()
    if path != "/predict":
        assert set(seen) == {200}
    elif mode == "positive":
        assert 200 in seen
    else:
        assert set(seen) & {400, 415, 422}


def test_every_path_is_described(api):
    assert set(api.raw_schema["paths"]) == {path for path, _ in OPERATIONS}
