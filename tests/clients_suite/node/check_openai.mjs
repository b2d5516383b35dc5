// The official Node SDK.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import OpenAI from 'openai'
import { zodResponseFormat, zodResponsesFunction, zodTextFormat } from 'openai/helpers/zod'
import { z } from 'zod'

const model = 'gemma-3-demo'
const client = new OpenAI({ baseURL: `${process.env.GEMMAD_CLIENTS_URL}/v1`, apiKey: 'none', maxRetries: 0 })
const messages = [{ role: 'user', content: 'What is the capital of France?' }]
const input = messages[0].content
const paris = 'The capital of France is Paris.'
const greedy = { model, temperature: 0, max_tokens: 400 }
const Mood = z.object({ mood: z.enum(['good', 'bad']), sure: z.boolean() })
const Light = z.object({ light: z.enum(['on', 'off']) })

test('chat', async () => {
  const { data, request_id } = await client.chat.completions.create({ ...greedy, messages }).withResponse()
  assert.equal(data.choices[0].message.content, paris)
  assert.ok(request_id)
})

test('chat as chunks', async () => {
  const stream = await client.chat.completions.create({
    ...greedy, messages, stream: true, stream_options: { include_usage: true },
  })
  let text = ''
  let usage = null
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? ''
    usage = chunk.usage ?? usage
  }
  assert.equal(text, paris)
  assert.ok(usage.total_tokens > usage.prompt_tokens)
})

test('chat through the stream helper', async () => {
  const runner = client.chat.completions.stream({ ...greedy, messages })
  const deltas = []
  runner.on('content', (delta) => deltas.push(delta))
  assert.equal(await runner.finalContent(), paris)
  assert.equal(deltas.join(''), paris)
})

test('chat parsed with zod', async () => {
  const done = await client.chat.completions.parse({
    ...greedy, messages, response_format: zodResponseFormat(Mood, 'mood'),
  })
  assert.equal(typeof done.choices[0].message.parsed.sure, 'boolean')
})

for (const stream of [false, true]) {
  test(`runTools, ${stream ? 'streamed' : 'whole'}`, async () => {
    const switched = []
    const runner = client.chat.completions.runTools(
      {
        ...greedy, messages, stream, parallel_tool_calls: false,
        tool_choice: { type: 'function', function: { name: 'switch_light' } },
        tools: [{
          type: 'function',
          function: {
            name: 'switch_light',
            description: 'Switch the light.',
            parse: (text) => Light.parse(JSON.parse(text)),
            function: ({ light }) => { switched.push(light); return 'done' },
            parameters: { ...z.toJSONSchema(Light), additionalProperties: false },
          },
        }],
      },
      { maxChatCompletions: 2 },
    )
    await runner.done()
    assert.ok(switched.length >= 1 && switched.every((light) => ['on', 'off'].includes(light)))
  })
}

test('completions', async () => {
  const whole = await client.completions.create({ model, prompt: 'Once', temperature: 0, max_tokens: 8 })
  let text = ''
  const stream = await client.completions.create({ model, prompt: 'Once', temperature: 0, max_tokens: 8, stream: true })
  for await (const chunk of stream) text += chunk.choices[0].text
  assert.equal(text, whole.choices[0].text)
})

test('responses', async () => {
  const response = await client.responses.create({ model, input, temperature: 0, max_output_tokens: 40 })
  assert.equal(response.output_text, paris)
  assert.equal((await client.responses.retrieve(response.id)).output_text, paris)
  await client.responses.delete(response.id)
  await assert.rejects(client.responses.retrieve(response.id), OpenAI.NotFoundError)
})

test('responses as events', async () => {
  const stream = await client.responses.create({ model, input, temperature: 0, max_output_tokens: 40, stream: true })
  let text = ''
  let number = 0
  let last = null
  for await (const event of stream) {
    assert.equal(event.sequence_number, number++)
    if (event.type === 'response.output_text.delta') text += event.delta
    last = event.type
  }
  assert.equal(text, paris)
  assert.equal(last, 'response.completed')
})

test('responses parsed with zod', async () => {
  const response = await client.responses.parse({ model, input, temperature: 0, text: { format: zodTextFormat(Mood, 'mood') } })
  assert.equal(typeof response.output_parsed.sure, 'boolean')
})

test('responses with a function', async () => {
  const tools = [zodResponsesFunction({ name: 'switch_light', parameters: Light })]
  const stream = client.responses.stream({ model, input, temperature: 0, tools, tool_choice: 'required' })
  const response = await stream.finalResponse()
  const calls = response.output.filter((item) => item.type === 'function_call')
  assert.ok(calls.length >= 1)
  for (const call of calls) assert.ok(['on', 'off'].includes(call.parsed_arguments.light))
})

test('a response in the background, cancelled', async () => {
  const made = await client.responses.create({ model, input: 'Count to 100.', background: true })
  assert.ok(['cancelled', 'completed'].includes((await client.responses.cancel(made.id)).status))
})

test('models', async () => {
  const ids = []
  for await (const one of client.models.list()) ids.push(one.id)
  assert.deepEqual(ids, [model])
})

test('errors', async () => {
  await assert.rejects(client.chat.completions.create({ ...greedy, model: 'gpt-9', messages }), OpenAI.NotFoundError)
  await assert.rejects(
    client.chat.completions.create({ ...greedy, messages, temperature: 9 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === 'temperature',
  )
})
