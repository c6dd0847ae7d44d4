// Runs oracle_worker.py in Pyodide: node pyodide.mjs <directory of the pyodide package> <oracle_worker.py> <validators/>
import { readFileSync, readdirSync, writeSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [where, worker, validators] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(join(where, "pyodide.mjs")).href);
const python = await loadPyodide({ stdout: () => {}, stderr: () => {} });
python.FS.mkdir("/validators");
for (const name of readdirSync(validators).filter((name) => name.startsWith("reference"))) {
  python.FS.writeFile("/validators/" + name, readFileSync(join(validators, name)));
}
python.FS.writeFile("/oracle_worker.py", readFileSync(worker));
const answer = python.runPython(`
import json, sys
sys.path.insert(0, "/")
import oracle_worker
judge = oracle_worker.load("/validators")
lambda request: json.dumps(oracle_worker.tell(judge, json.loads(request)))
`);

function write(bytes) {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(1, bytes, at);
    } catch (error) {
      if (error.code !== "EAGAIN") throw error;
    }
  }
}

let pending = Buffer.alloc(0);
for await (const chunk of process.stdin) {
  pending = Buffer.concat([pending, chunk]);
  while (pending.length >= 4 && pending.length >= 4 + pending.readUInt32BE(0)) {
    const end = 4 + pending.readUInt32BE(0);
    const reply = Buffer.from(answer(pending.subarray(4, end).toString()));
    pending = pending.subarray(end);
    const head = Buffer.alloc(4);
    head.writeUInt32BE(reply.length);
    write(Buffer.concat([head, reply]));
  }
}
