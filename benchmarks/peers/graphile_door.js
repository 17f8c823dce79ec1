// Node's own HTTP server in front of graphile-worker: a job a request. It verifies nothing.
const http = require("node:http");
const { makeWorkerUtils } = require("graphile-worker");

async function main() {
  const utils = await makeWorkerUtils({ connectionString: process.env.DATABASE_URL });
  await utils.migrate();
  const server = http.createServer((request, response) => {
    if (request.method !== "POST") return response.writeHead(404).end();
    const parts = [];
    request.on("data", (part) => parts.push(part));
    request.on("end", async () => {
      try {
        await utils.addJob("receive", { body: Buffer.concat(parts).toString() });
        response.writeHead(200).end();
      } catch (error) {
        console.error(error);
        response.writeHead(500).end();
      }
    });
  });
  server.listen(Number(process.env.PORT), "127.0.0.1");
}

main();
