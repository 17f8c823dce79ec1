// The jobs of drain.py and latency.py as Node's workers have them; benchmarks/jobs.py is the same for Python's.
const fs = require("node:fs");

const PAD = "x".repeat(600);
const UPSERT = `
    INSERT INTO drained (subject, event, times) VALUES ($1, $2, 1)
    ON CONFLICT (subject) DO UPDATE SET event = excluded.event, times = drained.times + 1`;
const EFFECT = `
    WITH effect AS (INSERT INTO effects (event_id) VALUES ($1) RETURNING event_id)
    SELECT pg_notify('effects', event_id) FROM effect`;

const last = Number(process.env.MARKS_LAST || 0);
let number = 0;

function called() {
  number += 1;
  if (number === 1) mark("first");
  if (number === last) mark("last");
}

function mark(word) {
  if (process.env.MARKS) fs.appendFileSync(process.env.MARKS, `${word} ${process.hrtime.bigint()}\n`);
}

function carried(n) {
  return { subject: `drain/${Math.floor(n / 50) * 10 + (n % 10)}`, event: n, pad: PAD };
}

// Calls store with the numbers of at most a thousand jobs at a time.
async function portions(count, store) {
  for (let first = 0; first < count; first += 1000) {
    await store(Array.from({ length: Math.min(1000, count - first) }, (_, place) => first + place));
  }
}

module.exports = { UPSERT, EFFECT, called, carried, portions };
