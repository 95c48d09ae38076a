"use strict";
(() => {
  const root = document.documentElement;
  const wanted = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme || (wanted.matches ? "dark" : "light")) === "dark";
  const colour = (name) => getComputedStyle(root).getPropertyValue("--" + name).trim();

  // Only what stands under a key of colours is a colour: a layer may be called anything.
  const painted = (value, key) => {
    if (typeof value === "string") return /color/.test(key) && value.startsWith("$") ? colour(value.slice(1)) : value;
    if (Array.isArray(value)) return value.map((one) => painted(one, key));
    if (value && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, painted(one, name)]));
    return value;
  };
  const narrow = () => innerWidth < 640;
  const clipped = (text) => text.length > 20 ? "…" + text.slice(-19) : text;
  const dressed = (chart) => {
    const layout = painted(chart.figure.layout, "");
    // On a phone long names would leave no room for the bars and the title of their axis.
    if (narrow() && layout.yaxis.ticktext) layout.yaxis.ticktext = layout.yaxis.ticktext.map(clipped);
    const axis = { gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"), automargin: true };
    layout.xaxis = { ...axis, fixedrange: true, ...layout.xaxis };
    layout.yaxis = { ...axis, fixedrange: true, ...layout.yaxis };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", dragmode: false, height: chart.height,
      font: { family: "system-ui, sans-serif", size: narrow() ? 11 : 13, color: colour("ink") },
      margin: { l: 48, r: 12, t: 12, b: 44 }, bargap: 0.25, hovermode: "closest",
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
      hoverlabel: { bgcolor: colour("paper"), bordercolor: colour("line"), font: { color: colour("ink") }, align: "left" },
      ...layout,
    };
  };
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const draw = () => charts.forEach((chart) => {
    const place = document.getElementById("chart-" + chart.name);
    if (place) Plotly.react(place, painted(chart.figure.data, ""), dressed(chart), { displayModeBar: false, responsive: true });
  });

  const button = document.getElementById("theme");
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => { root.dataset.theme = dark() ? "light" : "dark"; label(); draw(); });
  wanted.addEventListener("change", () => { label(); draw(); });
  label();
  draw();

  document.querySelectorAll(".pane").forEach((pane) => {
    const svg = pane.querySelector("svg");
    // Room at the top for the buttons.
    const full = { x: -12, y: -48, w: +svg.dataset.w + 24, h: +svg.dataset.h + 60 };
    let view = { ...full };
    const show = () => {
      svg.setAttribute("viewBox", [view.x, view.y, view.w, view.h].join(" "));
      svg.classList.toggle("far", pane.clientWidth / view.w < 0.35);
    };
    const ratio = () => pane.clientHeight / Math.max(pane.clientWidth, 1);
    const all = () => {
      const w = Math.max(full.w, full.h / ratio());
      view = { x: full.x + full.w / 2 - w / 2, y: full.y, w, h: w * ratio() };
      show();
    };
    const start = () => {
      const w = Math.min(Math.max(full.w, pane.clientWidth), 2.2 * pane.clientWidth);
      if (full.h <= w * ratio()) return all();
      view = { x: full.x + full.w / 2 - w / 2, y: full.y, w, h: w * ratio() };
      show();
    };
    const zoom = (factor, px, py) => {
      const w = Math.min(Math.max(view.w * factor, 120), 4 * Math.max(full.w, full.h / ratio()));
      const h = w * ratio();
      view = { x: view.x + (view.w - w) * px, y: view.y + (view.h - h) * py, w, h };
      show();
    };
    const at = (event) => {
      const box = pane.getBoundingClientRect();
      return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    };
    pane.addEventListener("wheel", (event) => {
      event.preventDefault();
      zoom(Math.exp(event.deltaY * 0.0015), ...at(event));
    }, { passive: false });
    const fingers = new Map();
    let moved = false;
    pane.addEventListener("pointerdown", (event) => {
      if (event.target.closest("button")) return;
      fingers.set(event.pointerId, event);
      moved = false;
    });
    addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const [x, y] = [event.clientX - before.clientX, event.clientY - before.clientY];
      if (fingers.size === 2) {
        const other = [...fingers.values()].find((one) => one.pointerId !== event.pointerId);
        const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
        zoom(apart(before) / Math.max(apart(event), 1), ...at(other));
      } else {
        view.x -= x * view.w / pane.clientWidth;
        view.y -= y * view.h / pane.clientHeight;
        show();
      }
      if (Math.abs(x) + Math.abs(y) > 3) moved = true;
      fingers.set(event.pointerId, event);
    });
    ["pointerup", "pointercancel"].forEach((kind) => addEventListener(kind, (event) => fingers.delete(event.pointerId)));
    const said = document.getElementById("said");
    svg.addEventListener("click", (event) => {
      const node = event.target.closest(".n");
      if (node && !moved) said.textContent = node.dataset.name + ": " + node.dataset.about;
    });
    pane.querySelector(".in").addEventListener("click", () => zoom(0.7, 0.5, 0.5));
    pane.querySelector(".out").addEventListener("click", () => zoom(1 / 0.7, 0.5, 0.5));
    pane.querySelector(".all").addEventListener("click", all);
    pane.goTo = (text) => {
      let first = null;
      svg.querySelectorAll(".n").forEach((node) => {
        const hit = text !== "" && (node.dataset.name + " " + node.dataset.about).toLowerCase().includes(text);
        node.classList.toggle("found", hit);
        if (hit && !first) first = node.querySelector("rect");
      });
      if (!first) return false;
      const w = Math.min(view.w, pane.clientWidth * 1.4), h = w * ratio();
      view = { x: +first.getAttribute("x") + 74 - w / 2, y: +first.getAttribute("y") - h / 2, w, h };
      show();
      return true;
    };
    start();
    addEventListener("resize", start);
  });
  const find = document.getElementById("find");
  if (find) find.addEventListener("input", () => {
    const text = find.value.trim().toLowerCase();
    const hits = [...document.querySelectorAll(".pane")].map((pane) => pane.goTo(text));
    document.getElementById("said").textContent = text && !hits.includes(true) ? "no node is called so" : "";
  });
})();
