package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"
)

const (
	settling = time.Second
	// how many streams are being opened at any time
	opening = 64
	endless = 1 << 30
)

var textField = []byte(`"content":`)

// events is what came of many streams.
type events struct {
	mutex                              sync.Mutex
	open, errors, number, reads, bytes int
	delays                             []time.Duration
}

// streams opens many streams, prints a line when they are open, counts for a while, prints what it
// counted, and keeps them open until its input ends, so that others can see what open streams take.
func streams(arguments []string) error {
	var to target
	flags := to.flags("streams")
	number := flags.Int("streams", 1000, "streams")
	rate := flags.Float64("rate", 5, "events per second of each")
	seconds := flags.Float64("seconds", 10, "how long to count")
	flags.Parse(arguments)
	request := to.request(fmt.Sprintf(promptForm, *rate, endless), 1024, `,"stream":true`)
	var all events
	all.openMany(&to, request, *number)
	time.Sleep(settling)
	all.reset()
	all.print()
	time.Sleep(time.Duration(*seconds * float64(time.Second)))
	all.print()
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

func (e *events) openMany(to *target, request []byte, number int) {
	places := make(chan struct{}, opening)
	var decided sync.WaitGroup
	decided.Add(number)
	for range number {
		places <- struct{}{}
		go func() {
			body, connection, err := openOne(to, request, e)
			e.opened(err)
			<-places
			decided.Done()
			if err == nil {
				e.lost(e.follow(body, connection))
			}
		}()
	}
	decided.Wait()
}

func openOne(to *target, request []byte, e *events) (*bufio.Reader, *client, error) {
	connection, err := to.dial()
	if err != nil {
		return nil, nil, err
	}
	response, err := connection.ask(request)
	if err != nil {
		connection.Close()
		return nil, nil, err
	}
	connection.reads = e.read
	return bufio.NewReader(response.Body), connection, nil
}

// follow reads a stream until it ends, which none does in time.
func (e *events) follow(body *bufio.Reader, connection *client) error {
	for {
		connection.SetReadDeadline(time.Now().Add(patience))
		line, err := body.ReadSlice('\n')
		if err != nil {
			return err
		}
		if at := bytes.Index(line, textField); at >= 0 {
			e.event(len(line)+1, sentAt(line[at+len(textField):]))
		}
	}
}

// sentAt gives the time in an event's text, which stands behind a quote.
func sentAt(text []byte) time.Time {
	_, text, _ = bytes.Cut(text, []byte(`"`))
	digits, _, _ := bytes.Cut(text, []byte(`"`))
	nanoseconds, _ := strconv.ParseInt(string(digits), 10, 64)
	return time.Unix(0, nanoseconds)
}

func (e *events) opened(err error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if err == nil {
		e.open++
		return
	}
	e.errors++
	complain(e.errors, err)
}

func (e *events) lost(err error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.open--
	e.errors++
	complain(e.errors, err)
}

func (e *events) event(size int, sent time.Time) {
	delay := time.Since(sent)
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.number++
	e.bytes += size
	e.delays = append(e.delays, delay)
}

func (e *events) read() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.reads++
}

// reset forgets what was counted, but not what is open and what failed.
func (e *events) reset() {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.number, e.reads, e.bytes, e.delays = 0, 0, 0, nil
}

func (e *events) print() error {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	delays := sorted(e.delays)
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"open":         e.open,
		"errors":       e.errors,
		"events":       e.number,
		"reads":        e.reads,
		"bytes":        e.bytes,
		"delay_p50_ms": percentile(delays, 50),
		"delay_p99_ms": percentile(delays, 99),
	})
}
