// pg-boss's jobs: "store KIND COUNT", or "work KIND" until SIGTERM: fetch 500, handle them at once, complete them.
// Not its work(), which pauses for half a second between two batches.
const PgBoss = require("pg-boss");
const { Pool } = require("pg");
const { UPSERT, called, carried, portions } = require("./jobs");

const connectionString = process.env.DATABASE_URL;
const IDLE = 20; // milliseconds

async function start() {
  const boss = new PgBoss({ connectionString, supervise: false, schedule: false });
  boss.on("error", console.error);
  await boss.start();
  return boss;
}

async function store(kind, count) {
  const boss = await start();
  await boss.createQueue(kind);
  await portions(count, (numbers) => boss.insert(numbers.map((n) => ({ name: kind, data: carried(n) }))));
  await boss.stop({ graceful: false });
}

async function work(kind) {
  const boss = await start();
  const pool = new Pool({ connectionString, max: 10 });
  const handlers = {
    nothing: async () => called(),
    upsert: async ({ data }) => {
      called();
      await pool.query(UPSERT, [data.subject, data.event]);
    },
  };
  process.on("SIGTERM", () => process.exit(0));
  for (;;) {
    const jobs = await boss.fetch(kind, { batchSize: 500 });
    if (jobs.length) {
      await Promise.all(jobs.map(handlers[kind]));
      await boss.complete(kind, jobs.map((job) => job.id));
    } else {
      await new Promise((resolve) => setTimeout(resolve, IDLE));
    }
  }
}

const [how, kind, count] = process.argv.slice(2);
(how === "store" ? store(kind, Number(count)) : work(kind)).catch((error) => {
  console.error(error);
  process.exit(1);
});
