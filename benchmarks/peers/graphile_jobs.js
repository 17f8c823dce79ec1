// graphile-worker's jobs: "store KIND COUNT"; or "work" on them until SIGTERM, set as its own performance test is;
// or "listen" for one at a time, as it is set by default, without a local queue.
const { run, makeWorkerUtils } = require("graphile-worker");
const { UPSERT, EFFECT, called, carried, portions } = require("./jobs");

const connectionString = process.env.DATABASE_URL;
const CONCURRENCY = 24;
const worker = {
  concurrentJobs: CONCURRENCY,
  maxPoolSize: CONCURRENCY + 1,
  localQueue: { size: 500, refetchDelay: { durationMs: 10 } },
  completeJobBatchDelay: 0,
  failJobBatchDelay: 0,
};
const taskList = {
  nothing: async () => called(),
  upsert: async ({ subject, event }, helpers) => {
    called();
    await helpers.withPgClient((client) => client.query(UPSERT, [subject, event]));
  },
  receive: async ({ body }, helpers) => {
    await helpers.withPgClient((client) => client.query(EFFECT, [String(JSON.parse(body).event_id)]));
  },
};

async function store(kind, count) {
  const utils = await makeWorkerUtils({ connectionString });
  await utils.migrate();
  await portions(count, (numbers) =>
    utils.addJobs(numbers.map((n) => ({ identifier: kind, payload: carried(n) }))));
  await utils.release();
}

async function work(preset) {
  const runner = await run({ connectionString, taskList, crontab: "", preset });
  await runner.promise;
}

const [how, kind, count] = process.argv.slice(2);
const doing = how === "store" ? store(kind, Number(count)) : work(how === "work" ? { worker } : {});
doing.catch((error) => {
  console.error(error);
  process.exit(1);
});
