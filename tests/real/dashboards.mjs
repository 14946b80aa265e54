// Type-checks every Grafana dashboard against Grafana's own published schema types, panel options included.
//
// Never starts a Grafana: whether the expressions return data is prometheus.py's part.
// usage: node dashboards.mjs FOLDER_WITH_NODE_MODULES DASHBOARD.json…

import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

const [tools, ...dashboards] = process.argv.slice(2);
const dist = "@grafana/schema/dist/esm/raw/composable";
const OPTIONS = { stat: "Stat", timeseries: "TimeSeries" };

// Enums of the schema are TypeScript string enums; in JSON they are their values.
const header = `
import type { Dashboard, DataQuery, Panel, RowPanel } from "@grafana/schema";
import type * as Stat from "${dist}/stat/panelcfg/x/StatPanelCfg_types.gen";
import type * as TimeSeries from "${dist}/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";
interface PrometheusQuery extends DataQuery { expr: string; legendFormat: string; editorMode: "code"; range: boolean; instant: boolean }
type Plain<T> = T extends string ? \`\${T}\` : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Partially<T> = T extends object ? { [K in keyof T]?: Partially<T[K]> } : T;
`;

/** Declares one constant of the given type, so that a wrong field is an error with the panel's title. */
function constant(name, type, value) {
  return `export const ${name}: ${type} = ${JSON.stringify(value, null, 1)};\n`;
}

function panelChecks(panel, prefix) {
  if (panel.type === "row") return constant(`${prefix}_row`, "Plain<RowPanel>", panel);
  const kind = OPTIONS[panel.type];
  if (!kind) throw new Error(`panel type ${panel.type} of “${panel.title}” has no checked options here`);
  let text = `// ${panel.title}\n` + constant(`${prefix}_panel`, "Plain<Panel>", panel);
  text += constant(`${prefix}_options`, `Plain<${kind}.Options>`, panel.options);
  const custom = panel.fieldConfig.defaults.custom;
  if (custom) text += constant(`${prefix}_custom`, `Plain<Partially<${kind}.FieldConfig>>`, custom);
  panel.targets.forEach((target, index) => {
    text += constant(`${prefix}_target${index}`, "Plain<PrometheusQuery>", target);
  });
  return text;
}

/** Faults that no type can tell: twice the same id, or panels that overlap. */
function layoutFaults(dashboard) {
  const faults = [];
  const panels = dashboard.panels;
  if (new Set(panels.map((panel) => panel.id)).size !== panels.length) faults.push("two panels have one id");
  panels.forEach((one, index) => {
    const a = one.gridPos;
    if (a.x + a.w > 24) faults.push(`“${one.title}” is wider than the page`);
    for (const other of panels.slice(index + 1)) {
      const b = other.gridPos;
      const apart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
      if (!apart) faults.push(`“${one.title}” and “${other.title}” overlap`);
    }
    if (one.type !== "row" && !one.description) faults.push(`“${one.title}” has no description`);
  });
  return faults;
}

let failed = false;
for (const file of dashboards) {
  const dashboard = JSON.parse(readFileSync(file, "utf8"));
  const { panels, ...rest } = dashboard;
  const checks = panels.map((panel, index) => panelChecks(panel, `p${index}`)).join("\n");
  const source = join(tools, `${basename(file, ".json")}.check.ts`);
  writeFileSync(source, header + constant("dashboard", "Plain<Dashboard>", rest) + checks);
  const flags = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022", "--ignoreConfig"];
  const run = spawnSync(join(tools, "node_modules/.bin/tsc"), [...flags, source], { stdio: "inherit" });
  for (const fault of layoutFaults(dashboard)) {
    console.error(`FAULT: ${basename(file)}: ${fault}`);
    failed = true;
  }
  if (run.status !== 0) failed = true;
  else console.log(`  proved: ${basename(file)}: ${panels.length} panels fit Grafana's schema`);
}
process.exit(failed ? 1 : 0);
