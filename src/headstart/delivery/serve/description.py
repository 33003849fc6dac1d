"""The interface described for programs (OpenAPI): what may be sent, and what comes back."""

from typing import Any

PICTURE_TYPES = ("application/octet-stream", "image/jpeg", "image/png", "image/webp")

_NUMBER = {"type": "number"}
_TEXT = {"type": "string"}
_TEXTS = {"type": "array", "items": _TEXT}

PREDICTION = {
    "type": "object",
    "description": "One line of `headstart predict --format jsonl`: an answer, or an error where there is none.",
    "required": ["path"],
    "properties": {
        "path": {**_TEXT, "description": "The file's name as it was sent, without folders."},
        "label": {**_TEXT, "description": "The likeliest class."},
        "probability": {**_NUMBER, "minimum": 0, "maximum": 1, "description": "Of the label, calibrated."},
        "probabilities": {"type": "object", "additionalProperties": _NUMBER, "description": "Of every class."},
        "set": {**_TEXTS, "description": "Classes that together hold the truth as often as `coverage` says."},
        "none_of_these": {
            "type": "object",
            "required": ["flag", "score"],
            "properties": {
                "flag": {"type": "boolean", "description": "Whether it is: the score is above 1."},
                "score": {**_NUMBER, "description": "How far it is from the pictures that the model learnt from."},
            },
            "description": "Whether the picture is unlike every class.",
        },
        "unsure": {
            "type": "boolean",
            "description": "Whether it fails `wanted_accuracy`, where that was asked.",
        },
        "overlay": {**_TEXT, "description": "With `explain=true`: what speaks for the label, a PNG as a data URI."},
        "error": {**_TEXT, "description": "Why the picture cannot be read; nothing else is there then."},
    },
}
ANSWERS = {
    "type": "object",
    "required": ["model", "predictions"],
    "properties": {
        "model": {**_TEXT, "description": "The name of the model that answered."},
        "predictions": {"type": "array", "items": PREDICTION, "description": "In the order of the pictures."},
    },
    "example": {
        "model": "photos",
        "predictions": [
            {
                "path": "ant.jpg",
                "label": "ants",
                "probability": 0.957,
                "probabilities": {"ants": 0.957, "bees": 0.043},
                "set": ["ants"],
                "none_of_these": {"flag": False, "score": 0.412},
            },
            {"path": "notes.txt", "error": "not a picture (begins with 'dear diary')"},
        ],
    },
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {**_TEXT, "description": "What is wrong and what to do, in words."},
        "predictions": {"type": "array", "items": PREDICTION, "description": "Where no picture could be read: why."},
    },
}
HEALTH = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"type": "string", "enum": ["ready", "loading"], "description": "With 200 and 503 respectively."}
    },
}
INFO = {
    "type": "object",
    "required": ["models", "limits", "version"],
    "properties": {
        "models": {
            "type": "array",
            "description": "The one that answers where none is asked for comes first.",
            "items": {
                "type": "object",
                "required": ["name", "classes", "backbone", "digests", "metrics", "explains", "engine"],
                "properties": {
                    "name": {
                        **_TEXT,
                        "description": "By which `model` asks for it.",
                    },
                    "classes": {**_TEXTS, "description": "What it tells apart."},
                    "backbone": {"type": "object", "description": "The network, and how pictures are prepared for it."},
                    "digests": {
                        "type": "object",
                        "description": "SHA-256 of its files, which tell one model from another.",
                    },
                    "metrics": {
                        "type": ["object", "null"],
                        "description": "How good it is on pictures that it had not seen, where its run says so.",
                    },
                    "explains": {"type": "boolean", "description": "Whether `explain=true` can be asked."},
                    "engine": {"type": "object", "description": "What computes, on what, in which precision."},
                },
            },
        },
        "limits": {
            "type": "object",
            "additionalProperties": _NUMBER,
            "description": "Of a picture and of a request: bytes, pixels, pictures, seconds.",
        },
        "version": {**_TEXT, "description": "Of headstart."},
    },
}

_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
_FORM = {
    "type": "object",
    "properties": {"file": _FILES, "files": _FILES},
    "minProperties": 1,
    "additionalProperties": False,
}
PICTURES = {
    "requestBody": {
        "required": True,
        "description": "One or many pictures as a form, in fields called `file` or `files`; or the bytes of one.",
        "content": {
            "multipart/form-data": {"schema": _FORM},
            **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_TYPES},
        },
    }
}

_REFUSALS = {
    400: "The request is damaged, has no picture in it, or is addressed to another host.",
    401: "A token is needed.",
    404: "There is no such model.",
    408: "The request did not arrive in time.",
    413: "Too many bytes, pictures or pixels.",
    415: "Neither a picture nor a form.",
    422: "A parameter has no such value, or no picture could be read.",
    503: "Busy or not ready; `Retry-After` says when to ask again.",
}


def answers(schema: dict[str, Any], what: str, *refusals: int, kind: str = "application/json") -> dict[int | str, Any]:
    """What a path answers: `schema` with 200, and errors with the statuses of `refusals`."""
    good: dict[int | str, Any] = {200: {"description": what, "content": {kind: {"schema": schema}}}}
    bad: dict[int | str, Any] = {
        status: {"description": _REFUSALS[status], "content": {"application/json": {"schema": ERROR}}}
        for status in refusals
    }
    return {**good, **bad}


def secured(description: dict[str, Any], open_to_all: frozenset[str]) -> dict[str, Any]:
    """The same description, saying that all but some paths need a token."""
    schemes = description.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["token"] = {"type": "http", "scheme": "bearer"}
    for path, methods in description["paths"].items():
        if path not in open_to_all:
            for method in methods.values():
                method["security"] = [{"token": []}]
    return description
