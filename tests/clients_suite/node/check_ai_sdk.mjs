// Vercel's AI SDK, which many Node programs and editors are built on.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { generateObject, generateText, streamText, tool } from 'ai'
import { z } from 'zod'

const provider = createOpenAICompatible({
  name: 'gemmad', baseURL: `${process.env.GEMMAD_CLIENTS_URL}/v1`, supportsStructuredOutputs: true, includeUsage: true,
})
const asked = { model: provider('gemma-3-demo'), temperature: 0, maxOutputTokens: 400, maxRetries: 0, prompt: 'What is the capital of France?' }
const paris = 'The capital of France is Paris.'

test('text', async () => {
  assert.equal((await generateText(asked)).text, paris)
})

test('streamed text', async () => {
  const run = streamText(asked)
  let text = ''
  for await (const delta of run.textStream) text += delta
  assert.equal(text, paris)
  assert.ok((await run.usage).outputTokens > 1)
})

test('an object', async () => {
  const { object } = await generateObject({ ...asked, schema: z.object({ mood: z.enum(['good', 'bad']) }) })
  assert.ok(['good', 'bad'].includes(object.mood))
})

for (const run of [generateText, streamText]) {
  test(`a forced call through ${run.name}`, async () => {
    const light = tool({
      description: 'Switch the light.', inputSchema: z.object({ light: z.enum(['on', 'off']) }), execute: async () => 'done',
    })
    const done = await run({ ...asked, tools: { light }, toolChoice: 'required' })
    const calls = await done.toolCalls
    assert.ok(calls.length >= 1)
    for (const call of calls) assert.ok(['on', 'off'].includes(call.input.light))
  })
}
