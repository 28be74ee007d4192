// Makes calls with OpenAI's and Anthropic's clients, one after another, and prints what came of them as JSON.
// Its argument is a list of {what, baseURL, apiKey, body}; `what` is one of the functions below.
import Anthropic from "@anthropic-ai/sdk";
import OpenAI from "openai";

const collect = async (stream) => {
  const events = [];
  for await (const event of await stream) events.push(event);
  return events;
};

const CALLS = {
  chat: ({ openai }, body) => openai.chat.completions.create(body),
  "chat, streamed": ({ openai }, body) => collect(openai.chat.completions.create({ ...body, stream: true })),
  "chat, by the helper": ({ openai }, body) => openai.chat.completions.stream(body).finalChatCompletion(),
  completion: ({ openai }, body) => openai.completions.create(body),
  "completion, streamed": ({ openai }, body) => collect(openai.completions.create({ ...body, stream: true })),
  embedding: ({ openai }, body) => openai.embeddings.create(body),
  response: ({ openai }, body) => openai.responses.create(body),
  "response, streamed": ({ openai }, body) => collect(openai.responses.create({ ...body, stream: true })),
  transcription: ({ openai }, body) =>
    openai.audio.transcriptions.create({ ...body, file: new File(["RIFF"], "a.wav") }),
  models: ({ openai }) => collect(openai.models.list()),
  model: ({ openai }, body) => openai.models.retrieve(body.model),
  image: ({ openai }, body) => openai.images.generate(body),
  message: ({ anthropic }, body) => anthropic.messages.create(body),
  "message, streamed": ({ anthropic }, body) => collect(anthropic.messages.create({ ...body, stream: true })),
};

const told = (error) => ({
  raised: error.constructor.name,
  status: error.status ?? null,
  code: error.code ?? null,
  param: error.param ?? null,
  message: error.message,
});

const results = [];
for (const { what, baseURL, apiKey, body } of JSON.parse(process.argv[2])) {
  const options = { baseURL, apiKey, maxRetries: 0 };
  const clients = { openai: new OpenAI(options), anthropic: new Anthropic(options) };
  results.push(await CALLS[what](clients, body).catch(told));
}
console.log(JSON.stringify(results));
