// A structure that turns: atoms as shaded spheres and bonds as sticks, or the backbone alone, on a 2D canvas, far to near.
// The server parses the file and sends bounded numbers; nothing of the file's text comes here.

const figure = document.getElementById("structure");
const canvas = document.getElementById("structure-canvas");
const turn = document.getElementById("structure-turn");
const help = document.getElementById("structure-help");
const context = canvas.getContext("2d");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");
const KEYS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const STEP = Math.PI / 24;
const SPEED = 0.35; // radians a second
const DEPTHS = 8; // shades from far to near
const SPHERES = { h: 0.25 };
const RADIUS = 0.4; // angstrom, of an atom's sphere

let model = null;
let sprites = new Map();
let shades = new Map();
let rotation = [1, 0, 0, 0, 1, 0, 0, 0, 1];
let zoom = 1;
let isTurning = false;
let last = 0;
let asked = false;

function product(a, b) {
  const found = new Array(9);
  for (let row = 0; row < 3; row++) for (let column = 0; column < 3; column++) found[row * 3 + column] = a[row * 3] * b[column] + a[row * 3 + 1] * b[column + 3] + a[row * 3 + 2] * b[column + 6];
  return found;
}

function rotate(aroundX, aroundY) {
  const [cx, sx, cy, sy] = [Math.cos(aroundX), Math.sin(aroundX), Math.cos(aroundY), Math.sin(aroundY)];
  rotation = product(product([1, 0, 0, 0, cx, -sx, 0, sx, cx], [cy, 0, sy, 0, 1, 0, -sy, 0, cy]), rotation);
  draw();
}

// Colours are the page's own custom properties, so that light and dark are said once, in CSS.
function colour(name) {
  const probe = getComputedStyle(figure).getPropertyValue(name).trim();
  context.fillStyle = "#000";
  context.fillStyle = probe;
  const hex = context.fillStyle;
  return [1, 3, 5].map((place) => parseInt(hex.slice(place, place + 2), 16));
}

const mixed = (one, other, share) => one.map((part, place) => Math.round(part + (other[place] - part) * share));
const css = (rgb) => `rgb(${rgb.join(" ")})`;

function paint() {
  const paper = colour("--surface");
  const edge = colour("--atom-edge");
  sprites = new Map();
  shades = new Map();
  for (const kind of new Set([...model.colours, "trace"])) {
    const own = colour(kind === "trace" ? "--running" : `--atom-${kind}`);
    const line = [];
    const spheres = [];
    for (let depth = 0; depth < DEPTHS; depth++) {
      const fog = 0.55 * (1 - depth / (DEPTHS - 1));
      const base = mixed(own, paper, fog);
      line.push(css(mixed(base, edge, 0.15)));
      spheres.push(sphere(base, mixed(edge, paper, fog)));
    }
    shades.set(kind, line);
    sprites.set(kind, spheres);
  }
}

function sphere(base, edge) {
  const size = 64;
  const made = document.createElement("canvas");
  made.width = made.height = size;
  const on = made.getContext("2d");
  const light = on.createRadialGradient(size * 0.36, size * 0.32, size * 0.04, size / 2, size / 2, size * 0.48);
  light.addColorStop(0, css(mixed(base, [255, 255, 255], 0.65)));
  light.addColorStop(0.4, css(base));
  light.addColorStop(1, css(mixed(base, [0, 0, 0], 0.35)));
  on.fillStyle = light;
  on.beginPath();
  on.arc(size / 2, size / 2, size * 0.47, 0, 2 * Math.PI);
  on.fill();
  on.strokeStyle = css(edge);
  on.lineWidth = 2;
  on.stroke();
  return made;
}

function draw() {
  if (model === null || asked) return;
  asked = true;
  requestAnimationFrame(frame);
}

function frame(now) {
  asked = false;
  if (isTurning) {
    const passed = Math.min(now - last, 100) / 1000;
    const [c, s] = [Math.cos(SPEED * passed), Math.sin(SPEED * passed)];
    rotation = product([c, 0, s, 0, 1, 0, -s, 0, c], rotation);
  }
  last = now;
  picture();
  if (isTurning && !document.hidden) draw();
}

function picture() {
  const ratio = Math.min(devicePixelRatio || 1, 2);
  const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  context.clearRect(0, 0, width, height);
  const { count, coordinates, reach, girth, colours, at } = model;
  const scale = Math.min((width / 2 - 12 * ratio) / reach, (height / 2 - 12 * ratio) / girth) * zoom;
  const [r0, r1, r2, r3, r4, r5, r6, r7, r8] = rotation;
  for (let atom = 0; atom < count; atom++) {
    const [x, y, z] = [coordinates[3 * atom], coordinates[3 * atom + 1], coordinates[3 * atom + 2]];
    const depth = r6 * x + r7 * y + r8 * z;
    const near = 1 + (0.25 * depth) / reach; // a little perspective
    at[4 * atom] = width / 2 + (r0 * x + r1 * y + r2 * z) * scale * near;
    at[4 * atom + 1] = height / 2 - (r3 * x + r4 * y + r5 * z) * scale * near;
    at[4 * atom + 2] = depth;
    at[4 * atom + 3] = near;
  }
  const shade = (depth) => Math.max(0, Math.min(DEPTHS - 1, Math.floor(((depth / reach + 1) / 2) * DEPTHS)));
  model.parts.sort((one, other) => depthOf(one) - depthOf(other));
  context.lineCap = "round";
  for (const part of model.parts) {
    const depth = depthOf(part);
    const [one, other] = part;
    if (other === undefined) {
      const kind = colours[one];
      const radius = (SPHERES[kind] ?? RADIUS) * scale * at[4 * one + 3];
      context.drawImage(sprites.get(kind)[shade(depth)], at[4 * one] - radius, at[4 * one + 1] - radius, 2 * radius, 2 * radius);
    } else if (model.isTrace) {
      stick(at[4 * one], at[4 * one + 1], at[4 * other], at[4 * other + 1], shades.get("trace")[shade(depth)], 0.7 * scale);
    } else {
      const [mx, my] = [(at[4 * one] + at[4 * other]) / 2, (at[4 * one + 1] + at[4 * other + 1]) / 2];
      stick(at[4 * one], at[4 * one + 1], mx, my, shades.get(colours[one])[shade(depth)], 0.24 * scale);
      stick(mx, my, at[4 * other], at[4 * other + 1], shades.get(colours[other])[shade(depth)], 0.24 * scale);
    }
  }
}

function stick(ax, ay, bx, by, style, width) {
  context.strokeStyle = style;
  context.lineWidth = Math.max(width, 1);
  context.beginPath();
  context.moveTo(ax, ay);
  context.lineTo(bx, by);
  context.stroke();
}

const depthOf = ([one, other]) => (other === undefined ? model.at[4 * one + 2] : (model.at[4 * one + 2] + model.at[4 * other + 2]) / 2);

function taken(document_) {
  const coordinates = Float64Array.from(document_.coordinates);
  const count = coordinates.length / 3;
  let reach = 1;
  let girth = 1; // how far it reaches from its long axis, which lies across: what must fit the height while it turns
  for (let atom = 0; atom < count; atom++) {
    const [x, y, z] = [coordinates[3 * atom], coordinates[3 * atom + 1], coordinates[3 * atom + 2]];
    reach = Math.max(reach, Math.hypot(x, y, z));
    girth = Math.max(girth, Math.abs(y), 0.8 * Math.hypot(y, z));
  }
  const isTrace = figure.dataset.draw === "backbone";
  const parts = [];
  if (isTrace) {
    for (const trace of document_.traces) for (let place = 1; place < trace.length; place++) parts.push([trace[place - 1], trace[place]]);
  } else {
    for (let atom = 0; atom < count; atom++) parts.push([atom]);
    for (let place = 0; place < document_.bonds.length; place += 2) parts.push([document_.bonds[place], document_.bonds[place + 1]]);
  }
  return { coordinates, count, reach: reach + 1, girth: girth + 1, colours: [...document_.colours], parts, isTrace, at: new Float64Array(4 * count) };
}

function turning(wanted) {
  isTurning = wanted;
  turn.textContent = wanted ? "Pause" : "Turn";
  turn.setAttribute("aria-pressed", String(wanted));
  last = performance.now();
  draw();
}

function listen() {
  turn.addEventListener("click", () => turning(!isTurning));
  document.getElementById("structure-reset").addEventListener("click", () => {
    rotation = [1, 0, 0, 0, 1, 0, 0, 0, 1];
    zoom = 1;
    draw();
  });
  canvas.addEventListener("keydown", (event) => {
    const step = KEYS[event.key];
    if (step) {
      turning(false);
      rotate(step[0] * STEP, step[1] * STEP);
    } else if (event.key === "+" || event.key === "=") zoom = Math.min(zoom * 1.2, 12);
    else if (event.key === "-") zoom = Math.max(zoom / 1.2, 0.5);
    else if (event.key === " ") turning(!isTurning);
    else return;
    event.preventDefault();
    draw();
  });
  let from = null;
  canvas.addEventListener("pointerdown", (event) => {
    from = [event.clientX, event.clientY];
    canvas.setPointerCapture(event.pointerId);
    turning(false);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (from === null) return;
    rotate((event.clientY - from[1]) * 0.01, (event.clientX - from[0]) * 0.01);
    from = [event.clientX, event.clientY];
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (from = null));
  new ResizeObserver(draw).observe(canvas);
  document.addEventListener("visibilitychange", draw);
  dark.addEventListener("change", () => {
    paint();
    draw();
  });
  still.addEventListener("change", () => turning(!still.matches));
}

async function begin() {
  const answer = await fetch(figure.dataset.atoms, { headers: { Accept: "application/json" } });
  if (!answer.ok) {
    help.textContent = `The atoms could not be fetched (${answer.status}); this is the flat drawing. Reload the page to try again.`;
    return;
  }
  model = taken(await answer.json());
  paint();
  figure.querySelector(".structure-flat").setAttribute("hidden", "");
  for (const note of document.querySelectorAll(".structure-flat-note")) note.hidden = true;
  canvas.hidden = false;
  document.getElementById("structure-buttons").hidden = false;
  help.textContent = "Drag, or use the arrow keys, to rotate; + and − to zoom; space to turn or pause.";
  figure.dataset.ready = "yes";
  listen();
  turning(!still.matches);
}

begin();
