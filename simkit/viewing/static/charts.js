// Charts: plain SVG, each with its numbers in words for those who do not see it.
import { html, useMemo } from './html.js';
import { axis, f3, plain, signed } from './text.js';
import { useSize, useTables } from './widgets.js';

/**
 * @typedef {{value: number | null, low: number | null, high: number | null}} Estimate
 */

/** A value with its interval on an axis from 0 to 1. */
export function Interval({ estimate, width = 150, label = '' }) {
  if (!estimate || estimate.value == null) return html`<span class="faint">–</span>`;
  const { value, low, high } = estimate;
  const x = (/** @type {number} */ share) => 5 + (width - 10) * Math.min(1, Math.max(0, share));
  const interval = low == null ? '' : `, 95% interval ${f3(low)} to ${f3(high)}`;
  const bar =
    low == null || high == null
      ? null
      : html`<line class="ci-bar" x1=${x(low)} y1="8" y2="8"
    x2=${Math.max(x(high), x(low) + 1)} />`;
  return html`<svg class="ci" viewBox=${`0 0 ${width} 16`} width=${width} height="16" role="img"
    aria-label=${`${label} ${f3(value)}${interval}`.trim()}>
    <line class="ci-axis" x1="5" x2=${width - 5} y1="8" y2="8" />
    <path class="ci-ends" d=${`M5 5v6M${width - 5} 5v6`} />
    ${bar}<circle class="ci-dot" cx=${x(value)} cy="8" r="4" /></svg>`;
}

/** The chance that k trials of a task all succeed, for k = 1, 2, ... */
export function PassK({ values, width = 86, height = 26 }) {
  if (!values || values.length < 2) return html`<span class="faint">–</span>`;
  const points = values.slice(0, 24);
  const x = (/** @type {number} */ i) => 4 + (i * (width - 8)) / (points.length - 1);
  const y = (/** @type {number} */ share) => height - 4 - share * (height - 8);
  const line = points.map((p, i) => `${i ? 'L' : 'M'}${x(i).toFixed(1)} ${y(p ?? 0).toFixed(1)}`).join('');
  const area = `${line}V${height - 3}H${x(0).toFixed(1)}Z`;
  const dots =
    points.length <= 8 ? points.map((p, i) => html`<circle class="good-fill" cx=${x(i)} cy=${y(p)} r="2.2" />`) : null;
  return html`<svg width=${width} height=${height} role="img" class="passk"
    aria-label=${`pass^k for k from 1 to ${points.length}: ${points.map(f3).join(', ')}`}>
    <path class="baseline" d=${`M2 ${height - 3}H${width - 2}`} />
    <path class="good-area" d=${area} /><path class="good-line" d=${line} stroke-width="1.8" />${dots}</svg>`;
}

/** Shares of a whole as one bar. @param {{parts: [string, number, string][]}} props name, number, colour */
export function Shares({ parts }) {
  const total = parts.reduce((sum, part) => sum + part[1], 0) || 1;
  return html`<div class="shares" role="img"
    aria-label=${parts.map(([name, number]) => `${plain(name)}: ${number}`).join(', ')}>
    ${parts.map(
      ([name, number, colour]) => html`<i key=${name} title=${`${plain(name)}: ${number}`}
      style=${`flex-grow:${number / total};background:${colour}`}></i>`,
    )}
  </div>`;
}

/**
 * Differences with their intervals around zero.
 * @param {{rows: any[], unitless?: boolean}} props
 */
export function Forest({ rows }) {
  const tables = useTables();
  const reach = rows.flatMap(row => [row.estimate.low, row.estimate.high, row.estimate.value]);
  const limit = Math.max(0.05, ...reach.filter(x => x != null).map(Math.abs));
  const x = (/** @type {number | null} */ value) => 50 + (47 * (value ?? 0)) / limit;
  if (tables) return html`<${ForestTable} rows=${rows} />`;
  return html`<div class="forest">${rows.map(row => {
    const { value, low, high } = row.estimate;
    const better = row.less_is_better ? -1 : 1;
    const kind =
      row.incomparable || low == null || (low <= 0 && high >= 0) ? 'even' : value * better > 0 ? 'up' : 'down';
    const words = `${row.label}: ${signed(value)}, interval ${signed(low)} to ${signed(high)}`;
    return html`<div class=${`forest-row ${kind}`} role="img" aria-label=${plain(words)}>
      <span class="cut" title=${plain(row.label)}>${plain(row.label)}</span>
      <svg height="18" viewBox="0 0 100 18" preserveAspectRatio="none" aria-hidden="true">
        <line class="zero" x1="50" x2="50" y1="0" y2="18" />
        ${low == null ? null : html`<line class="span" x1=${x(low)} x2=${x(high)} y1="9" y2="9" />`}
        <line class="dot" x1=${x(value)} x2=${x(value)} y1="9" y2="9" />
      </svg>
      <span class="num right">${signed(value)}</span>
    </div>`;
  })}<div class="forest-row axis-row" aria-hidden="true"><span></span><span class="ends num"><i>${signed(-limit, 2)}</i>
    <i>0</i><i>${signed(limit, 2)}</i></span><span></span></div></div>`;
}

function ForestTable({ rows }) {
  return html`<table class="numbers"><thead><tr><th>measure</th><th class="right">difference</th>
    <th class="right">interval</th><th class="right">p, corrected</th></tr></thead>
    <tbody>${rows.map(
      row => html`<tr><td>${plain(row.label)}</td><td class="right num">${signed(row.estimate.value)}</td>
      <td class="right num">${signed(row.estimate.low)} to ${signed(row.estimate.high)}</td>
      <td class="right num">${row.corrected < 0.0001 ? '< 0.0001' : row.corrected?.toFixed(4)}</td></tr>`,
    )}</tbody></table>`;
}

/** Two averages of a task on an axis from 0 to 1: a ring for the reference, a dot for the arm. */
export function Dumbbell({ before, after }) {
  const kind =
    after == null || before == null || Math.abs(after - before) < 1e-9 ? 'even' : after > before ? 'up' : 'down';
  const x = (/** @type {number} */ share) => 100 * Math.min(1, Math.max(0, share));
  return html`<svg class=${`dumbbell ${kind}`} height="16" viewBox="0 0 100 16" preserveAspectRatio="none"
    aria-hidden="true">
    <line class="track" x1="0" x2="100" y1="8" y2="8" />
    ${before == null || after == null ? null : html`<line class="span" x1=${x(before)} x2=${x(after)} y1="8" y2="8" />`}
    ${
      before == null
        ? null
        : html`<line class="ring" x1=${x(before)} x2=${x(before)} y1="8" y2="8" />
      <line class="hole" x1=${x(before)} x2=${x(before)} y1="8" y2="8" />`
    }
    ${after == null ? null : html`<line class="dot" x1=${x(after)} x2=${x(after)} y1="8" y2="8" />`}</svg>`;
}

/**
 * A curve of a training: the measured points, and for noisy ones an exponential average.
 * @param {{name: string, stage: string, points: [number, number | null][], mark?: number | null}} props
 */
export function Curve({ name, stage, points, mark = null }) {
  const [ref, { width }] = useSize();
  const tables = useTables();
  const shape = useMemo(() => curveShape(points, width || 300), [points, width]);
  const last = points.filter(p => p[1] != null).at(-1);
  const title = html`<h3>${plain(name)} <small>${plain(stage)}</small>
    <span class="grow"></span><b class="num">${axis(last?.[1])}</b></h3>`;
  if (tables) {
    return html`<div class="curve">${title}<div class="scroll-y" tabindex="0" role="group" aria-label=${plain(name)}>
      <table class="numbers"><tbody>
      ${points.map(
        ([step, value]) => html`<tr><td class="num">step ${step}</td><td
        class="num right">${axis(value)}</td></tr>`,
      )}
      </tbody></table></div></div>`;
  }
  const { H, X, Y, raw, smooth, low, high, first, end, few, steady } = shape;
  return html`<div class="curve">${title}<div ref=${ref}>
    <svg width="100%" height=${H} role="img" aria-label=${`${plain(stage)} ${plain(name)}: ${points.length} steps, from
      ${axis(points[0]?.[1])} to ${axis(last?.[1])}, between ${axis(low)} and ${axis(high)}`}>
      <path class="baseline" d=${`M44 8.5H${width - 4}M44 ${H - 20.5}H${width - 4}`} />
      <text class="axis" x="38" y="12" text-anchor="end">${axis(high)}</text>
      <text class="axis" x="38" y=${H - 17} text-anchor="end">${axis(low)}</text>
      <text class="axis" x="44" y=${H - 4}>${first}</text>
      <text class="axis" x=${width - 4} y=${H - 4} text-anchor="end">step ${end}</text>
      ${mark == null ? null : html`<line class="mark-line" x1=${X(mark)} x2=${X(mark)} y1="6" y2=${H - 20} />`}
      ${steady ? null : html`<path class="raw" d=${raw} />`}
      <path class=${few ? 'gold-line' : 'good-line'} d=${smooth} stroke-width="2" />
      ${
        few
          ? points.map(p =>
              p[1] == null ? null : html`<circle class="gold-fill" cx=${X(p[0])} cy=${Y(p[1])} r="3.6" />`,
            )
          : null
      }
    </svg></div></div>`;
}

/** @param {[number, number | null][]} points @param {number} width */
function curveShape(points, width) {
  const H = 130;
  const known = /** @type {[number, number][]} */ (points.filter(p => p[1] != null));
  const steps = known.map(p => p[0]);
  const values = known.map(p => p[1]);
  const [first, end] = [Math.min(...steps), Math.max(...steps)];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const X = (/** @type {number} */ step) => 46 + ((width - 56) * (step - first)) / (end - first || 1);
  const Y = (/** @type {number} */ value) => 10 + (H - 32) * (high === low ? 0.5 : 1 - (value - low) / (high - low));
  const draw = (/** @type {number[]} */ ys) =>
    ys.map((y, i) => `${i ? 'L' : 'M'}${X(steps[i]).toFixed(1)} ${Y(y).toFixed(1)}`).join('');
  const few = known.length <= 24;
  let average = values[0];
  const steady = few || isSmooth(values, high - low);
  const averaged = steady ? values : values.map(value => (average = average * 0.85 + value * 0.15));
  return { H, X, Y, raw: draw(values), smooth: draw(averaged), low, high, first, end, few, steady };
}

/**
 * Whether a curve bends so little that an average would only be late.
 * @param {number[]} values
 * @param {number} range
 */
function isSmooth(values, range) {
  let bends = 0;
  for (let i = 1; i + 1 < values.length; i++) bends += Math.abs(values[i + 1] - 2 * values[i] + values[i - 1]);
  return bends / values.length < 0.004 * range;
}
