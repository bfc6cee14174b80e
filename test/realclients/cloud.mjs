// The cloud, played by MQTT.js: it writes down every message that reaches it, one line each, and answers
// what Fleets answers. It knows one Thing and one job.
//
//   node cloud.mjs MQTT_URL HTTP_PORT RECORD_FILE
//
// A line of the record: TOPIC QOS RETAIN PAYLOAD, the payload as it came. What is no message begins with #.
import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'
import mqtt from 'mqtt'

const [url, port, record] = process.argv.slice(2)
const thing = 'pump-07'
const base = `$emqx/things/${thing}/`

const write = (line) => appendFileSync(record, line + '\n')

// The pieces are spelled by hand, so that the test can compare bytes.
const execution = '{"jobId":"job-1","status":"IN_PROGRESS","executionNumber":1780000000000123,"versionNumber":1,' +
  '"jobDocument":{"url":"https://example.com/fw.bin","big":12345678901234567890,"rate":1.50}}'

const token = (request) => JSON.stringify(request.clientToken)

function answer (topic, request) {
  switch (topic) {
    case base + 'jobs/get':
      return ['accepted', `{"inProgressJobs":[],"queuedJobs":[{"jobId":"job-1","queuedAt":1780000000,"versionNumber":1}],"timestamp":1780000000,"clientToken":${token(request)}}`]
    case base + 'jobs/start-next':
      return ['accepted', `{"execution":${execution},"timestamp":1780000000,"clientToken":${token(request)}}`]
    case base + 'jobs/job-1/get':
      return ['accepted', `{"execution":${execution},"clientToken":${token(request)}}`]
    case base + 'jobs/job-1/update':
      return ['accepted', `{"executionState":{"status":${JSON.stringify(request.status)},"versionNumber":2},"clientToken":${token(request)}}`]
    case base + 'jobs/changed/update':
      return ['rejected', `{"code":"VersionMismatch","message":"expected 1, is 4","executionState":{"status":"IN_PROGRESS","versionNumber":4},"clientToken":${token(request)}}`]
    case base + 'jobs/unknown/update':
      return ['rejected', `{"code":"ResourceNotFound","message":"no such job","clientToken":${token(request)}}`]
  }
  return null // events, reports, responses; and jobs/silent/get, which is never answered
}

// A session that stays with the broker, and a broker that forgets nothing: what is missing from the
// record was lost on its way here.
const client = mqtt.connect(url, {
  protocolVersion: 5, clientId: 'cloud', clean: false, properties: { sessionExpiryInterval: 3600 }, reconnectPeriod: 200
})

client.on('connect', async () => {
  await client.subscribeAsync([`${base}#`, `$emqx/commands/things/${thing}/executions/+/response`], { qos: 1 })
  write('# subscribed')
})

client.on('message', (topic, payload, packet) => {
  write(`${topic} ${packet.qos} ${packet.retain ? 1 : 0} ${payload}`)
  let request
  try { request = JSON.parse(payload) } catch { return }
  const found = answer(topic, request)
  if (found) client.publish(`${topic}/${found[0]}`, found[1], { qos: 1 })
})

client.on('error', (err) => write(`# ${err.message}`))

// The HTTP API, as far as a gateway uses it.
const documents = {
  '/api/v1/thing-datas/pump-07/shadow': '{"reported":{},"desired":{"rpm":1200},"delta":{"rpm":1200},"version":3,"updatedAt":"2026-06-01T00:00:00Z"}',
  '/api/v1/thing-datas/pump%208/shadow': '{"reported":null,"desired":null,"delta":null,"version":0}'
}
const key = 'Basic ' + Buffer.from('key:secret').toString('base64')
createServer((request, response) => {
  const found = request.method === 'GET' && documents[request.url]
  response.statusCode = request.headers.authorization !== key ? 401 : found ? 200 : 404
  response.setHeader('Content-Type', 'application/json')
  response.end(response.statusCode === 200 ? found : '{"title":"no"}')
}).listen(Number(port), '127.0.0.1', () => write('# serves HTTP'))
