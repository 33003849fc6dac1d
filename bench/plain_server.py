"""The server that bench/serve.py compares with: FastAPI and torch, as one writes it in an afternoon.

    python bench/plain_server.py MODEL --port 8001

The model is loaded by timm from the same folder, each request is decoded by Pillow, prepared by timm's transform and
answered by one forward pass in FastAPI's thread pool.
"""

import argparse
import io
from pathlib import Path

import timm
import torch
import uvicorn
from fastapi import FastAPI, UploadFile
from PIL import Image


def build(model: Path) -> FastAPI:
    network = timm.create_model(f"local-dir:{model}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network))
    names = network.pretrained_cfg.get("label_names") or [str(n) for n in range(network.num_classes)]
    api = FastAPI()

    @api.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ready"}

    @api.post("/predict")
    def predict(file: UploadFile) -> dict[str, object]:
        picture = Image.open(io.BytesIO(file.file.read())).convert("RGB")
        with torch.inference_mode():
            probabilities = network(transform(picture)[None]).softmax(dim=1)[0].tolist()
        best = max(range(len(probabilities)), key=probabilities.__getitem__)
        return {"label": names[best], "probabilities": dict(zip(names, probabilities, strict=True))}

    return api


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, required=True)
    args = parser.parse_args()
    uvicorn.run(build(args.model), port=args.port, log_level="error")
