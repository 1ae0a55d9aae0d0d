"use strict";
// Plots of the searches that the stores keep. `tools` are the page's own: what it looks like, how it draws, what it tells.
const searches = (data, tools) => {
  const { element, axis, layout, draw, colour, spans, plain } = tools;
  const state = { which: 0 };
  const named = (s, k) => (typeof s.architectures[k] === "number" ? data.architectures[s.architectures[k]] : s.architectures[k]);
  const trials = (s, among, x, y) => ({ // an architecture that is in the page is its number, so that a click chooses it
    type: "scattergl", mode: "markers", x: among.map(x), y: among.map(y), marker: { size: 4, color: colour("--quiet"), opacity: 0.6 },
    text: among.map((k) => plain(named(s, k))), customdata: among.map((k) => s.architectures[k]), hovertemplate: "%{text}<br>%{y:.6g}<extra></extra>",
  });
  const better = (objective) => (a, b) => (objective.larger ? a > b : a < b);
  const said = (o) => `${o.name}${o.larger ? "" : ", less is better"}`;
  const history = (s) => {
    const values = s.values[0], wins = better(s.objectives[0]), among = values.map((_, k) => k).filter((k) => s.ok[k] && values[k] !== null);
    let best = null;
    const so_far = among.map((k) => (best = best === null || wins(values[k], best) ? values[k] : best));
    draw("history", [trials(s, among, (k) => k, (k) => values[k]), { x: among, y: so_far, mode: "lines", line: { color: colour("--blue"), shape: "hv", width: 2 }, hovertemplate: "best so far %{y:.6g}<extra></extra>" }],
      layout(`${s.objectives[0].text}: best of ${among.length.toLocaleString("en")} trials so far`, axis("trial"), axis(said(s.objectives[0]), { type: spans(among.map((k) => values[k])) ? "log" : "linear" })));
  };
  const front = (s) => {
    element("front").hidden = s.objectives.length < 2;
    if (s.objectives.length < 2) return;
    const [a, b] = s.values, among = a.map((_, k) => k).filter((k) => s.ok[k] && s.values.every((v) => v[k] !== null));
    const wins = better(s.objectives[0]), cheap = better(s.objectives[1]);
    const order = [...among].sort((i, k) => (b[i] === b[k] ? (a[i] === a[k] ? 0 : wins(a[i], a[k]) ? -1 : 1) : cheap(b[i], b[k]) ? -1 : 1));
    const best = [];
    for (const k of order) if (!best.length || wins(a[k], a[best[best.length - 1]])) best.push(k);
    draw("front", [trials(s, among, (k) => b[k], (k) => a[k]), { x: best.map((k) => b[k]), y: best.map((k) => a[k]), mode: "lines+markers", line: { color: colour("--red"), width: 1.5 }, marker: { size: 6 }, hoverinfo: "skip" }],
      layout(`Front of ${s.objectives[0].text} and ${s.objectives[1].text}: ${best.length} networks`, axis(said(s.objectives[1]), { type: spans(among.map((k) => b[k])) ? "log" : "linear", exponentformat: "SI" }), axis(said(s.objectives[0]))));
  };
  const show = () => {
    element("searches").hidden = !data.searches.length;
    if (!data.searches.length) return;
    const s = data.searches[state.which];
    element("how").textContent = `${s.architectures.length.toLocaleString("en")} trials; ${s.how}`;
    history(s); front(s);
  };
  return { show, choose: (which) => { state.which = which; show(); } };
};
