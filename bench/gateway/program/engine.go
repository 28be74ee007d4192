package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const (
	models = `{"object":"list","data":[{"id":"bench","object":"model","created":1763700000,` +
		`"owned_by":"vllm","root":"bench","parent":null,"max_model_len":32768,"permission":[]}]}`
	head = `"id":"chatcmpl-0f6d5a3c2b1e4d7c8a9b0c1d2e3f4a5b","created":1763700000,"model":"bench",`
	// the time at which an event was sent stands where its text is, which every gateway passes on
	beforeTime = `data: {` + head + `"object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"`
	afterTime  = `"},"logprobs":null,"finish_reason":null}]}` + "\n\n"
	usage      = `"usage":{"prompt_tokens":240,"total_tokens":440,"completion_tokens":200,"prompt_tokens_details":null}`
	usageEvent = `data: {` + head + `"object":"chat.completion.chunk","choices":[],` + usage + "}\n\n"
	done       = "data: [DONE]\n\n"
	streamHead = "HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\n" +
		"content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
	endOfChunks = "0\r\n\r\n"
)

var (
	completion = `{` + head + `"object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"` +
		strings.Repeat("All work and no play makes a dull benchmark. ", 14) +
		`","refusal":null,"tool_calls":[]},"logprobs":null,"finish_reason":"stop","stop_reason":null}],` + usage +
		`,"system_fingerprint":null,"service_tier":null,"prompt_logprobs":null,"kv_transfer_params":null}`
	answers = map[string][]byte{
		"/v1/models":           answer("200 OK", models),
		"/health":              answer("200 OK", ""),
		"/v1/chat/completions": answer("200 OK", completion),
	}
	notFound = answer("404 Not Found", `{"error":{"message":"Not Found","type":"NotFoundError","code":404}}`)
)

func answer(status, body string) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 %s\r\ndate: Sat, 21 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\n"+
		"content-length: %d\r\ncontent-type: application/json\r\n\r\n%s", status, len(body), body)
}

// engine answers as vLLM does, but at once: it is to cost little beside the gateways in front of it.
func engine(arguments []string) error {
	flags := flag.NewFlagSet("engine", flag.ExitOnError)
	address := flags.String("listen", "127.0.0.1:0", "address")
	flags.Parse(arguments)
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go serve(connection)
	}
}

func serve(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReader(connection)
	var body bytes.Buffer
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		body.Reset()
		if _, err = body.ReadFrom(request.Body); err != nil {
			return
		}
		if asks(body.Bytes(), `"stream":`, "true") {
			err = stream(connection, body.Bytes())
		} else if found, known := answers[request.URL.Path]; known {
			_, err = connection.Write(found)
		} else {
			_, err = connection.Write(notFound)
		}
		if err != nil {
			return
		}
	}
}

// asks tells whether a body has a field with a value, with and without the space that some put there.
func asks(body []byte, field, value string) bool {
	return bytes.Contains(body, []byte(field+value)) || bytes.Contains(body, []byte(field+" "+value))
}

// stream sends the events that the prompt asks for: "5 events per second, 100 in all".
func stream(connection io.Writer, body []byte) error {
	perSecond, number := wanted(body)
	buffer := append([]byte(streamHead), chunk(event())...)
	interval := time.Duration(float64(time.Second) / perSecond)
	// streams that begin together don't go on in step
	next := time.Now().Add(time.Duration(rand.Float64() * float64(interval)))
	for sent := 0; ; sent++ {
		if _, err := connection.Write(buffer); err != nil {
			return err
		}
		if sent >= number {
			break
		}
		time.Sleep(time.Until(next))
		next = next.Add(interval)
		buffer = append(buffer[:0], chunk(event())...)
	}
	return end(connection, asks(body, `"include_usage":`, "true"))
}

func end(connection io.Writer, withUsage bool) error {
	var last []byte
	if withUsage {
		last = chunk(usageEvent)
	}
	last = append(append(last, chunk(done)...), endOfChunks...)
	_, err := connection.Write(last)
	return err
}

func event() string {
	return beforeTime + strconv.FormatInt(time.Now().UnixNano(), 10) + afterTime
}

func chunk(data string) []byte {
	return fmt.Appendf(make([]byte, 0, len(data)+16), "%x\r\n%s\r\n", len(data), data)
}

func wanted(body []byte) (perSecond float64, number int) {
	perSecond, number = 50, 100
	if at := bytes.Index(body, []byte(promptBegin)); at >= 0 {
		fmt.Sscanf(string(body[at:min(len(body), at+100)]), promptForm, &perSecond, &number)
	}
	return perSecond, number
}
