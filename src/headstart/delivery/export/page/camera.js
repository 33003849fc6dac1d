// The camera, where the browser gives it to a page: a window with what it sees, and a picture of that.

const lens = {
  dialog: document.getElementById("camera"),
  view: document.getElementById("view"),
  said: document.getElementById("camera-said"),
  shoot: document.getElementById("shoot"),
  taken: 0,
};

const REFUSED = {
  NotAllowedError: "The browser does not give the camera to this page. Some never do for pages opened from a file: take the picture with the camera's own program, and drop it here.",
  NotFoundError: "There is no camera.",
  NotReadableError: "The camera is in use by another program.",
};

/** Open the window; each picture that is taken is given to `add` as a file. */
export function camera(add) {
  lens.shoot.addEventListener("click", async () => add([await shot()]));
  lens.dialog.addEventListener("close", () => {
    for (const track of lens.view.srcObject?.getTracks() ?? []) track.stop();
    lens.view.srcObject = null;
  });
  document.getElementById("camera-close").addEventListener("click", () => lens.dialog.close());
  return async () => {
    say("The camera is being started …", false);
    lens.dialog.showModal();
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      if (!lens.dialog.open) return stream.getTracks().forEach((track) => track.stop());
      lens.view.srcObject = stream;
      await lens.view.play();
      say("", true);
    } catch (error) {
      say(REFUSED[error?.name] ?? "The camera cannot be used here.", false);
    }
  };
}

function say(text, ready) {
  lens.said.textContent = text;
  lens.view.hidden = !ready;
  lens.shoot.disabled = !ready;
}

async function shot() {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [lens.view.videoWidth, lens.view.videoHeight];
  canvas.getContext("2d").drawImage(lens.view, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  lens.taken += 1;
  lens.said.textContent = `Picture ${lens.taken} is taken.`;
  return new File([blob], `camera-${lens.taken}.png`, { type: "image/png" });
}
