// What a page cannot do by itself: the theme, fields of the matrix, sorting, filtering, pointing at the map.
// Names and paths come from strangers: they reach the page by textContent and properties alone.
"use strict";
(() => {
  const find = (selector, within = document) => within.querySelector(selector);
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const store = JSON.parse(find("#store").textContent);

  const make = (tag, text = "", kind = "") => {
    const element = document.createElement(tag);
    if (text) element.textContent = text;
    if (kind) element.className = kind;
    return element;
  };

  // A copy of picture `number`, kept in the store or standing in the page already; null where there is none.
  const picture = (number, alt) => {
    const kept = store.pictures[number];
    const shown = kept ? null : find(`img[data-picture="${Number(number)}"]`);
    if (!kept && !shown) return null;
    const image = make("img", "", "thumb");
    image.src = kept ? kept[0] : shown.src;
    image.width = kept ? kept[1] : shown.width;
    image.height = kept ? kept[2] : shown.height;
    image.alt = alt;
    return image;
  };

  const shortened = (text) => (text.length > 60 ? `${text.slice(0, 30)}…${text.slice(-29)}` : text);
  const named = (text, kind = "name") => {
    const element = make("bdi", shortened(text), kind);
    element.title = text;
    return element;
  };

  for (const element of all(".with-script[hidden]")) element.hidden = false;
  theme();
  looks();
  matrix();
  sorting();
  filtering();
  map();
  here();
  addEventListener("beforeprint", () => all("details").forEach((one) => (one.open = true)));

  function theme() {
    const button = find("#theme");
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const recall = () => { try { return localStorage.getItem("headstart-theme"); } catch { return null; } };
    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const show = () => button.setAttribute("aria-pressed", String(isDark()));
    const kept = recall();
    if (kept === "dark" || kept === "light") root.dataset.theme = kept;
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      try { localStorage.setItem("headstart-theme", root.dataset.theme); } catch { /* a page that may keep nothing */ }
      show();
    });
    system.addEventListener("change", show);
    show();
  }

  function looks() {
    for (const button of all(".looks")) {
      button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
      });
    }
  }

  function matrix() {
    const table = find("#matrix");
    if (!table) return;
    const buttons = all("button", table);
    const panel = find("#cell");
    const amount = (button) => store.cells[Number(button.dataset.cell)].n;
    const focusable = (one) => buttons.forEach((other) => (other.tabIndex = other === one ? 0 : -1));
    if (!buttons.length) return;
    focusable(buttons[0]);
    const misses = all(".miss button", table);
    const first = misses.reduce((most, one) => (amount(one) > amount(most) ? one : most), misses[0] || buttons[0]);
    first.setAttribute("aria-pressed", "true");
    showCell(store.cells[Number(first.dataset.cell)]);
    table.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (!button) return;
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      focusable(button);
      panel.setAttribute("role", "status");
      showCell(store.cells[Number(button.dataset.cell)]);
    });
    table.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const button = event.target.closest("button");
      if (!step || !button) return;
      event.preventDefault();
      let row = button.closest("tr").rowIndex;
      let column = button.closest("td").cellIndex;
      for (;;) {
        row += step[0];
        column += step[1];
        const cell = table.rows[row] && table.rows[row].cells[column];
        if (!cell || row < 1 || column < 1) return;
        const next = find("button", cell);
        if (next) {
          focusable(next);
          next.focus();
          return;
        }
      }
    });
  }

  function showCell(cell) {
    const panel = find("#cell");
    const title = make("h4");
    const isRight = cell.truth === cell.said;
    title.append(String(cell.n), cell.n === 1 ? " picture of " : " pictures of ", named(cell.truth));
    title.append(isRight ? " named rightly" : " taken for ", isRight ? "" : named(cell.said));
    const list = make("ul", "", "cards compact");
    for (const [number, path, probability] of cell.shown) {
      const item = make("li", "", "card shot");
      const frame = make("div", "", "frame");
      frame.append(picture(number, `${path}, ${probability}`) || make("span", "not shown", "thumb blank"));
      const line = make("p", `probability ${probability}`, "said");
      const where = make("p", "", "path");
      where.append(named(path));
      item.append(frame, line, where);
      list.append(item);
    }
    const few = cell.shown.length < cell.n;
    const order = isRight ? "the least sure" : "the most confident";
    const note = few ? `${cell.shown.length} of ${cell.n} shown, ${order}.` : "";
    panel.replaceChildren(title, ...(note ? [make("p", note, "sampled")] : []), list);
    panel.hidden = false;
  }

  function sorting() {
    for (const table of all("table.sortable")) {
      const body = table.tBodies[0];
      [...table.tHead.rows[0].cells].forEach((head, column) => {
        if (head.classList.contains("wide")) return;
        const button = make("button");
        button.type = "button";
        button.append(...head.childNodes);
        head.append(button);
        button.addEventListener("click", () => {
          const down = head.getAttribute("aria-sort") === "ascending";
          for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
          head.setAttribute("aria-sort", down ? "descending" : "ascending");
          const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
          const order = (one, other) => key(one).localeCompare(key(other), undefined, { numeric: true });
          const byNumber = (one, other) => Number(key(one)) - Number(key(other));
          const compare = body.rows[0].cells[column].dataset.value === undefined ? order : byNumber;
          body.append(...[...body.rows].sort((one, other) => (down ? compare(other, one) : compare(one, other))));
        });
      });
    }
  }

  function filtering() {
    const form = find("#filter");
    if (!form) return;
    const rows = all("#problems tbody tr").map((row) => [row, row.textContent.toLowerCase()]);
    const apply = () => {
      const words = find("#find").value.toLowerCase().trim();
      const kind = find("#kind").value;
      let left = 0;
      for (const [row, text] of rows) {
        row.hidden = !(text.includes(words) && (!kind || row.dataset.kind === kind));
        left += row.hidden ? 0 : 1;
      }
      find("#found").textContent = `${left} of ${rows.length} rows`;
    };
    form.addEventListener("input", apply);
    form.addEventListener("submit", (event) => event.preventDefault());
    apply();
  }

  function map() {
    const field = find("#field");
    if (!field || !store.points.length) return;
    const drawing = find("svg", field);
    const hover = find("#hover");
    const ring = find("#here");
    let current = -1;
    field.tabIndex = 0;

    const nearest = (x, y, most, ahead = () => true) => {
      let best = -1;
      let least = most;
      store.points.forEach(([px, py], place) => {
        const distance = Math.hypot(px - x, py - y);
        if (distance < least && ahead(px, py, distance)) [best, least] = [place, distance];
      });
      return best;
    };

    const show = (place, aloud) => {
      current = place;
      hover.hidden = place < 0;
      if (place < 0) {
        ring.setAttribute("cx", "-99");
        return;
      }
      const point = store.points[place];
      const [x, y, path, label, part] = point;
      const number = point[point.length - 1];
      const answer = point.length > 6 ? `said ${point[5]} ${point[6]}` : "";
      ring.setAttribute("cx", x);
      ring.setAttribute("cy", y);
      const where = part === "test" ? "held out" : "learnt from";
      const image = picture(number, "");
      const lines = [make("b", label), ...(answer ? [make("span", answer)] : []), make("span", `${where} · ${path}`)];
      lines.forEach((line) => (line.dir = "auto"));
      hover.replaceChildren(...(image ? [image] : []), ...lines);
      const scale = drawing.clientWidth / 1000;
      const left = Math.min(Math.max(x * scale - hover.offsetWidth / 2, 0), drawing.clientWidth - hover.offsetWidth);
      const above = y * scale - hover.offsetHeight - 18;
      hover.style.left = `${left}px`;
      hover.style.top = `${above > -60 ? above : y * scale + 18}px`;
      if (aloud) find("#spoken").textContent = [label, answer, where, path].filter(Boolean).join(", ");
    };

    drawing.addEventListener("pointermove", (event) => {
      const box = drawing.getBoundingClientRect();
      const scale = 1000 / box.width;
      show(nearest((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, 28 * Math.max(1, scale * 0.6)), false);
    });
    drawing.addEventListener("pointerleave", () => show(-1, false));
    field.addEventListener("focus", () => { if (current < 0) show(nearest(500, 320, Infinity), true); });
    field.addEventListener("blur", () => show(-1, false));
    field.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Escape") show(-1, false);
      if (!step) return;
      event.preventDefault();
      const [x, y] = current < 0 ? [500, 320] : store.points[current];
      const ahead = (px, py, distance) => {
        const along = (px - x) * step[0] + (py - y) * step[1];
        return along > 0.5 && along >= 0.6 * distance;
      };
      const next = nearest(x, y, Infinity, ahead);
      if (next >= 0) show(next, true);
    });
  }

  // Mark in the contents which section is being read.
  function here() {
    const links = new Map(all(".contents a").map((link) => [link.hash.slice(1), link]));
    const watch = new IntersectionObserver((entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        links.forEach((link) => link.removeAttribute("aria-current"));
        const link = links.get(target.id);
        if (link) link.setAttribute("aria-current", "true");
      }
    }, { rootMargin: "-15% 0px -75% 0px" });
    all("main > section[id]").forEach((section) => watch.observe(section));
  }
})();
