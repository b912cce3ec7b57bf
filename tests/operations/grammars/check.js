// Reads {"kusto": {"tables": {name: columns}, "queries": {name: text}}, "promql": {…}, "logql": {…}} and prints what is wrong
// with each text, as {language: {name: [fault, …]}}: the errors that the authors' own grammars find, and for Kusto names and types
// that do not fit, too.
"use strict";
const fs = require("fs");
const path = require("path");
const vm = require("vm");

const wanted = JSON.parse(fs.readFileSync(0, "utf8"));

// The language service is a script for browsers.
const kustoFolder = path.dirname(require.resolve("@kusto/language-service-next/package.json"));
for (const file of ["bridge.min.js", "Kusto.Language.Bridge.min.js"]) {
  vm.runInThisContext(fs.readFileSync(path.join(kustoFolder, file), "utf8"), { filename: file });
}
const { GlobalState, KustoCode, Symbols } = Kusto.Language;
const tables = Object.entries(wanted.kusto.tables)
  .map(([name, columns]) => Symbols.TableSymbol.From(columns).WithName(name));
const database = new Symbols.DatabaseSymbol.ctor("workspace", tables);
const globals = GlobalState.Default.WithDatabase(database);

function kusto(text) {
  const found = KustoCode.ParseAndAnalyze(text, globals).GetDiagnostics();
  return Array.from({ length: found.Count }, (_, at) => found.getItem(at))
    .map((it) => `${it.Severity} at ${it.Start}: ${it.Message}`);
}

// Trees of lezer have a node of the type error where a text does not fit.
function lezer(parser) {
  return (text) => {
    const faults = [];
    parser.parse(text).iterate({
      enter: (node) => {
        if (node.type.isError) faults.push(`error at ${node.from}: ${text.slice(node.from, node.from + 30)}`);
      },
    });
    return faults;
  };
}

const faults = (texts, check) => Object.fromEntries(Object.entries(texts).map(([name, text]) => [name, check(text)]));
console.log(JSON.stringify({
  kusto: faults(wanted.kusto.queries, kusto),
  promql: faults(wanted.promql, lezer(require("@prometheus-io/lezer-promql").parser)),
  logql: faults(wanted.logql, lezer(require("@grafana/lezer-logql").parser)),
}));
