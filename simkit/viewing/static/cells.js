// Every task and trial as one canvas: ten thousand cells cost one element.
import { html, useEffect, useMemo, useRef, useState } from './html.js';
import { f2, plain, words } from './text.js';
import { tone, useSize } from './widgets.js';

const GAP = 2;

/** Room above, for half a label. */
const TOP = 4;

/**
 * @param {{episodes: any, onPick: (task: string, trial: number) => void, theme: string}} props columns of
 *   `/api/runs/RUN`; a click picks
 */
export function Cells({ episodes, onPick, theme }) {
  const [box, { width }] = useSize();
  const canvas = useRef(/** @type {any} */ (null));
  const [tip, setTip] = useState(/** @type {any} */ (null));
  const grid = useMemo(() => gridOf(episodes), [episodes]);
  const shape = useMemo(() => shapeOf(grid, width || 600), [grid, width]);
  useEffect(() => {
    if (width) draw(canvas.current, grid, shape, episodes, width);
  }, [grid, shape, width, theme]);
  const under = (/** @type {MouseEvent} */ event) => {
    const frame = canvas.current.getBoundingClientRect();
    return hit(grid, shape, event.clientX - frame.left, event.clientY - frame.top);
  };
  const hover = (/** @type {MouseEvent} */ event) => {
    const found = under(event);
    setTip(old => (found?.row === old?.row ? old : found && { ...found, x: event.offsetX, y: event.offsetY }));
  };
  const label =
    `Reward of ${grid.count} episodes: ${grid.tasks.length} tasks, worst first, with ${grid.trials} trials each. ` +
    'The table of episodes has the same numbers.';
  return html`<div class="cells" ref=${box}><canvas ref=${canvas} style=${`width:100%;height:${shape.height}px`}
    role="img"
      aria-label=${label}
      onClick=${(/** @type {MouseEvent} */ event) => {
        const found = under(event);
        if (found) onPick(found.task, found.trial);
      }} onMouseMove=${hover} onMouseLeave=${() => setTip(null)}></canvas>
    ${
      tip
        ? html`<div class="tip" style=${`left:${Math.min(tip.x + 12, width - 190)}px;top:${tip.y + 14}px`}
          aria-hidden="true">
      <b>${plain(tip.task)}/${tip.trial}</b> ${describe(episodes, tip.row)}</div>`
        : null
    }</div>`;
}

/** What the colours mean. */
export function CellLegend({ episodes }) {
  const any = (/** @type {(i: number) => unknown} */ test) =>
    episodes.task_id.some((/** @type {string} */ _, /** @type {number} */ i) => test(i));
  return html`<div class="legend" aria-hidden="true"><span><i style=${`background:${tone(0)}`}></i>0</span>
    <span><i style=${`background:${tone(0.5)}`}></i>0.5</span><span><i
      style=${`background:${tone(1)}`}></i>full reward</span>
    ${
      any(i => episodes.faults[i] > 0 && episodes.reward[i] == null)
        ? html`<span><i
      class="fault-cell">✗</i>fault</span>`
        : null
    }
    ${
      any(i => episodes.reward[i] == null && !episodes.running?.[i] && !(episodes.faults[i] > 0))
        ? html`<span><i style=${`background:${tone(null)}`}></i>not scored</span>`
        : null
    }
    ${any(i => episodes.running?.[i]) ? html`<span><i class="running-cell"></i>running</span>` : null}</div>`;
}

function describe(episodes, row) {
  if (episodes.running?.[row]) return 'running';
  const reward = episodes.reward[row] == null ? 'not scored' : f2(episodes.reward[row]);
  return `${reward}, ${words(episodes.outcome[row])}`;
}

/** Tasks from the worst average on, and the row of each cell. */
function gridOf(episodes) {
  /** @type {Map<string, {sum: number, scored: number, running: number}>} */
  const sums = new Map();
  let trials = 1;
  for (let i = 0; i < episodes.task_id.length; i++) {
    const task = episodes.task_id[i];
    const entry = sums.get(task) ?? { sum: 0, scored: 0, running: 0 };
    sums.set(task, entry);
    if (episodes.trial[i] + 1 > trials) trials = episodes.trial[i] + 1;
    if (episodes.running?.[i]) entry.running++;
    if (episodes.reward[i] == null) continue;
    entry.sum += episodes.reward[i];
    entry.scored++;
  }
  const average = new Map(
    [...sums].map(([task, { sum, scored, running }]) => [task, scored ? sum / scored : running ? 2 : -1]),
  );
  const tasks = [...sums.keys()].sort((a, b) => (average.get(a) ?? 0) - (average.get(b) ?? 0) || (a < b ? -1 : 1));
  const index = new Map(tasks.map((task, i) => [task, i]));
  const rows = new Map();
  for (let i = 0; i < episodes.task_id.length; i++) {
    rows.set((index.get(episodes.task_id[i]) ?? 0) * trials + episodes.trial[i], i);
  }
  return { tasks, trials, rows, count: episodes.task_id.length, labels: labelsOf(tasks) };
}

/** Task ids without what they all begin with. @param {string[]} tasks */
function labelsOf(tasks) {
  if (tasks.length < 2) return tasks;
  let common = 0;
  const [first] = tasks;
  while (common < first.length && tasks.every(task => task[common] === first[common])) common++;
  while (common > 0 && /[0-9]/.test(first[common - 1]) && first[common - 1] !== '0') common--;
  return tasks.map(task => plain(task.slice(common) || task).slice(-9));
}

/** @param {any} grid @param {number} width */
function shapeOf(grid, width) {
  const many = grid.tasks.length * grid.trials;
  const cell = many > 20000 ? 5 : many > 4000 ? 8 : many > 1200 ? 11 : grid.trials === 1 ? 22 : 17;
  const labelled = grid.trials > 1;
  const label = labelled
    ? Math.min(62, 8 + 6.4 * Math.max(...grid.labels.map((/** @type {string} */ l) => l.length)))
    : 0;
  const block = label + grid.trials * cell;
  const between = labelled ? 16 : 0;
  const most = Math.max(1, Math.floor((width + between) / (block + between)));
  const columns = Math.min(grid.tasks.length, most);
  const lines = Math.ceil(grid.tasks.length / Math.max(1, columns));
  const spread =
    labelled && columns === most && columns > 1 ? Math.min(40, (width - columns * block) / (columns - 1)) : between;
  const pitch = cell + (labelled && cell > 8 ? GAP : 1);
  return {
    cell,
    label,
    block,
    step: block + spread,
    columns,
    lines,
    pitch,
    height: TOP + Math.max(cell, lines * pitch),
  };
}

function hit(grid, shape, x, y) {
  const column = Math.floor(x / shape.step);
  const within = x - column * shape.step - shape.label;
  const trial = Math.floor(within / shape.cell);
  const place = taskPlace(shape, column, Math.floor((y - TOP) / shape.pitch));
  const row =
    column < shape.columns && trial >= 0 && trial < grid.trials ? grid.rows.get(place * grid.trials + trial) : null;
  return row == null ? null : { row, task: grid.tasks[place], trial };
}

/** With labels tasks go down a column, else along a line. */
const taskPlace = (shape, column, line) => (shape.label ? column * shape.lines + line : line * shape.columns + column);

function draw(canvas, grid, shape, episodes, width) {
  const scale = devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(shape.height * scale);
  const pen = canvas.getContext('2d');
  pen.scale(scale, scale);
  const colour = colours(canvas);
  const side = shape.cell - (shape.cell > 10 ? 2 : 1);
  const radius = shape.cell > 15 ? 3.5 : shape.cell > 8 ? 2 : 1;
  pen.font = `10.5px ${getComputedStyle(canvas).fontFamily}`;
  pen.textBaseline = 'middle';
  grid.tasks.forEach((/** @type {string} */ _, /** @type {number} */ place) => {
    const column = shape.label ? Math.floor(place / shape.lines) : place % shape.columns;
    const line = shape.label ? place % shape.lines : Math.floor(place / shape.columns);
    const left = column * shape.step;
    const top = TOP + line * shape.pitch;
    if (shape.label && line % Math.ceil(11 / shape.pitch) === 0) {
      pen.fillStyle = colour('var(--soft)');
      pen.fillText(grid.labels[place], left, top + side / 2 + 0.5);
    }
    for (let trial = 0; trial < grid.trials; trial++) {
      const row = grid.rows.get(place * grid.trials + trial);
      if (row != null) cellOf(pen, colour, episodes, row, left + shape.label + trial * shape.cell, top, side, radius);
    }
  });
}

function cellOf(pen, colour, episodes, row, x, y, side, radius) {
  const running = episodes.running?.[row];
  const fault = !running && episodes.reward[row] == null && episodes.faults[row] > 0;
  pen.beginPath();
  pen.roundRect(x, y, side, side, radius);
  pen.fillStyle = colour(running ? 'var(--accent-bg)' : fault ? 'var(--bad-bg)' : tone(shade(episodes, row)));
  pen.fill();
  if (running || fault) {
    pen.lineWidth = 1.2;
    pen.strokeStyle = colour(running ? 'var(--accent)' : 'var(--bad)');
    if (running) pen.stroke();
    else {
      pen.beginPath();
      const inset = side * 0.28;
      pen.moveTo(x + inset, y + inset);
      pen.lineTo(x + side - inset, y + side - inset);
      pen.moveTo(x + side - inset, y + inset);
      pen.lineTo(x + inset, y + side - inset);
      pen.stroke();
    }
  }
}

/** The reward that a cell shows, in few steps; a success is full whatever the range of the reward. */
function shade(episodes, row) {
  const reward = episodes.reward[row];
  if (reward == null) return null;
  return (episodes.success?.[row] ?? reward >= 1) ? 1 : Math.min(0.95, Math.round(reward * 20) / 20);
}

/** Colours of the style sheet as a canvas takes them; each is computed once. @param {HTMLElement} canvas */
function colours(canvas) {
  const known = new Map();
  const probe = document.createElement('i');
  canvas.parentElement?.append(probe);
  queueMicrotask(() => probe.remove());
  return (/** @type {string} */ css) => {
    if (!known.has(css)) {
      probe.style.color = css;
      known.set(css, getComputedStyle(probe).color);
    }
    return known.get(css);
  };
}
