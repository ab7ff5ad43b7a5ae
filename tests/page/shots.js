// Pictures of a page that runs: `node tests/page/shots.js http://localhost:8080 target/screens`.
"use strict";

process.env.NODE_PATH ||= `${__dirname}/../../target/clients-js/node_modules`;
require("module").Module._initPaths();
const { launch, shots } = require("./browser.js");

(async () => {
  const [base, into] = process.argv.slice(2);
  const wrong = [], browser = await launch(wrong);
  const status = await (await fetch(`${base}/api/v1/status`)).json();
  const { rollouts } = await (await fetch(`${base}/api/v1/rollouts`)).json();
  const paths = { overview: "/", log: "/log", login: "/login" };
  if (status.nodes[0]) paths.node = `/node/${status.nodes[0].node}`;
  if (rollouts[0]) paths.rollout = `/rollout/${rollouts[0].app}`;
  wrong.push(...(await shots(browser, base, paths, into)));
  await browser.close();
  wrong.forEach((line) => console.error(line));
  process.exitCode = wrong.length ? 1 : 0;
})();
