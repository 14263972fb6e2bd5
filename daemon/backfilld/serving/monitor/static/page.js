// Refreshes the page: parts of it as HTML that the server made, and charts with uPlot. Without it the page is as right,
// and as old as its last load.
const root = document.documentElement;
const data = new Map();
const drawn = new Map();
const HEIGHTS = { price: 288, delta: 144 };

const colour = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
const number = (_, value) => (value == null ? "–" : value.toLocaleString("en", { maximumSignificantDigits: 9 }));
const two = (value) => String(value).padStart(2, "0");
function clock(at, seconds) {
  const of = new Date(at * 1000);
  return `${two(of.getUTCHours())}:${two(of.getUTCMinutes())}${seconds ? `:${two(of.getUTCSeconds())}` : ""}`;
}
const line = (name, label) => ({ label, stroke: colour(name), width: 1.5, value: number, points: { show: false } });

/** The series of a chart, and the columns that uPlot is to draw. */
function plan(name, columns) {
  if (name === "price") return [[line("price", "price"), line("vwap", "VWAP")], columns];
  if (name === "delta") return [[line("delta", "cumulative delta")], columns];
  if (name === "rate") return [[line("rate", "trades a second")], columns];
  const [times, own, bots, others, limit] = columns;
  const bars = uPlot.paths.bars({ size: [0.8, 24] });
  const part = (key, of) => ({
    label: key, fill: colour(key), stroke: colour(key), width: 0, paths: bars, points: { show: false },
    value: (_, __, ___, place) => number(null, place == null ? null : of()[place]),
  });
  const column = (place) => () => data.get(name)[place];
  const both = own.map((value, place) => value + bots[place]);
  const all = both.map((value, place) => value + others[place]);
  // The largest bar is drawn first, and the smaller ones before it.
  const parts = [part("others", column(3)), part("bots", column(2)), part("own", column(1))];
  return [[...parts, line("limit", "limit")], [times, all, both, own, limit]];
}

/** Where nobody points at the chart, its legend says the newest values. */
function newest(chart) {
  const last = chart.data[0].length - 1;
  if (chart.legend.idx == null && last >= 0) chart.setLegend({ idx: last }, false);
}

function draw(figure) {
  const name = figure.dataset.chart;
  const columns = data.get(name);
  if (!columns) return;
  if (columns[0].length === 0) {
    figure.classList.add("empty");
    return;
  }
  const [series, shown] = plan(name, columns);
  const chart = drawn.get(figure);
  if (chart) {
    chart.setData(shown);
    if (chart.cursor.idx == null) chart.setLegend({ idx: shown[0].length - 1 }, false);
    return;
  }
  const axis = { stroke: colour("quiet"), grid: { stroke: colour("grid"), width: 1 }, ticks: { stroke: colour("grid"), width: 1 } };
  const hourly = name.startsWith("weight") || name === "rate";
  const options = {
    width: figure.clientWidth,
    height: HEIGHTS[name] ?? 192,
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    cursor: { sync: { key: name === "price" || name === "delta" ? "today" : "hour" } },
    scales: hourly ? { x: { range: (_, first, last) => [Math.max(last - 3600, Math.min(first ?? last, last - 600)) - 30, last + 30] }, y: { range: (_, __, high) => [0, (high || 1) * 1.05] } } : {},
    axes: [{ ...axis, values: (_, ticks, __, ___, step) => ticks.map((each) => clock(each, step < 60)) }, { ...axis, size: 70, values: (_, ticks) => ticks.map((each) => number(null, each)) }],
    hooks: { setLegend: [newest] },
    series: [{ label: "time", value: (_, at) => (at == null ? "–" : clock(at, true)) }, ...series],
  };
  figure.classList.remove("empty");
  figure.classList.add("script");
  const made = new uPlot(options, shown, figure);
  drawn.set(figure, made);
  newest(made);
}

const figures = [...document.querySelectorAll("figure[data-chart]")];
function redraw() {
  for (const [figure, chart] of drawn) {
    chart.destroy();
    drawn.delete(figure);
  }
  figures.forEach(draw);
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const chart = drawn.get(target);
    if (chart && chart.width !== target.clientWidth) chart.setSize({ width: target.clientWidth, height: chart.height });
  }
});
figures.forEach((figure) => sizes.observe(figure));

/** Take the points from `start` on, and replace those from the first new one on. */
function merge(name, { start, columns }) {
  const old = data.get(name) ?? columns.map(() => []);
  const first = columns[0][0] ?? Infinity;
  const kept = old[0].map((at) => at >= start && at < first);
  data.set(name, columns.map((column, place) => [...old[place].filter((_, at) => kept[at]), ...column]));
}

function listen() {
  const link = document.getElementById("link");
  const source = new EventSource(document.body.dataset.events);
  source.onopen = () => { link.textContent = ""; };
  source.onmessage = ({ data: text }) => {
    const { parts, charts } = JSON.parse(text);
    for (const [id, html] of Object.entries(parts)) {
      const place = document.getElementById(id);
      if (place) place.innerHTML = html;
    }
    for (const [name, change] of Object.entries(charts)) {
      merge(name, change);
      figures.filter((figure) => figure.dataset.chart === name).forEach(draw);
    }
  };
  source.onerror = () => {
    link.textContent = "(connection lost: these figures are old)";
    // A browser does not try again after an answer that is no stream of events.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 5000);
  };
}
listen();
