// Scraped: what the dashboard and the rules ask for, and what a server exports.

/** Every query of a dashboard, with its variables filled in: [{ panel, expression }]. */
export function queriesOf(dashboard, { job, window }) {
  const fill = (text) => text.replaceAll('$job', job).replaceAll('$instance', '.*').replaceAll('$__rate_interval', window);
  const queries = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ panel: title, expression: fill(expr) })));
  const left = queries.filter(({ expression }) => expression.includes('$'));
  if (left.length) throw new Error(`variables that nobody fills in: ${JSON.stringify(left)}`);
  return queries;
}

/** The metrics of ours that expressions name. */
export function metricsNamed(expressions) {
  return new Set(expressions.flatMap((expression) => expression.match(/\b(?:onair|process)_[a-z0-9_]+\b/g) ?? []));
}

/** The names under which an exposition's values are stored. */
export function metricsExported(exposition) {
  const declared = [...exposition.matchAll(/^# TYPE (\S+) (\S+)$/gm)];
  return new Set(declared.flatMap(([, name, type]) => (type === 'histogram' ? ['_bucket', '_sum', '_count'].map((end) => name + end) : [name])));
}
