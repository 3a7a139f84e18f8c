// What a user would otherwise write: webhooks as BullMQ jobs. `add` adds as many jobs as it is told to, `work` posts them,
// signed as Standard Webhooks asks. With DATABASE_URL each attempt becomes a row.
import { createHmac, randomBytes, randomUUID } from 'node:crypto'
import { Queue, Worker } from 'bullmq'
import IORedis from 'ioredis'
import pg from 'pg'
import { Pool } from 'undici'

const { REDIS_URL, TARGET, PAYLOAD, DATABASE_URL } = process.env
const concurrency = Number(process.env.CONCURRENCY)
const redis = () => new IORedis(REDIS_URL, { maxRetriesPerRequest: null })
const ready = () => console.log('ready')

async function add() {
  const queue = new Queue('webhooks', {
    connection: redis(),
    defaultJobOptions: { removeOnComplete: true, attempts: 5, backoff: { type: 'exponential', delay: 1000 } },
  })
  await queue.waitUntilReady()
  const orders = redis()
  ready()
  for (;;) {
    const [, count] = await orders.blpop('bench:add', 0)
    let left = Number(count)
    const publisher = async () => {
      while (left-- > 0) await queue.add('webhook', { id: `msg_${randomUUID()}`, body: PAYLOAD })
    }
    await Promise.all(Array.from({ length: concurrency }, publisher))
  }
}

async function work() {
  const { origin, pathname } = new URL(TARGET)
  const receiver = new Pool(origin, { connections: concurrency })
  const secret = randomBytes(24)
  const database = DATABASE_URL && new pg.Pool({ connectionString: DATABASE_URL, max: 10 })
  await database?.query(
    `CREATE TABLE attempts (id bigserial PRIMARY KEY, message_id text NOT NULL, url text NOT NULL, number int NOT NULL,
     http_status int NOT NULL, duration_ms int NOT NULL, payload text NOT NULL, created_at timestamptz NOT NULL DEFAULT now())`,
  )
  const process = async (job) => {
    const { id, body } = job.data
    const at = Math.floor(Date.now() / 1000)
    const signature = createHmac('sha256', secret).update(`${id}.${at}.${body}`).digest('base64')
    const began = performance.now()
    const answer = await receiver.request({
      method: 'POST',
      path: pathname,
      headers: {
        'content-type': 'application/json',
        'webhook-id': id,
        'webhook-timestamp': String(at),
        'webhook-signature': `v1,${signature}`,
      },
      body,
    })
    await answer.body.dump()
    await database?.query({
      name: 'attempt',
      text: 'INSERT INTO attempts (message_id, url, number, http_status, duration_ms, payload) VALUES ($1, $2, $3, $4, $5, $6)',
      values: [id, TARGET, job.attemptsMade + 1, answer.statusCode, Math.round(performance.now() - began), body],
    })
    if (answer.statusCode >= 300) throw new Error(`the receiver answered ${answer.statusCode}`)
  }
  const worker = new Worker('webhooks', process, { connection: redis(), concurrency })
  worker.on('error', (error) => console.error(error))
  await worker.waitUntilReady()
  ready()
}

await { add, work }[process.argv[2]]()
