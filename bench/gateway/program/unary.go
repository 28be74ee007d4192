package main

import (
	"encoding/json"
	"io"
	"os"
	"sync"
	"time"
)

// answered is what came of many requests with whole answers.
type answered struct {
	mutex     sync.Mutex
	errors    int
	latencies []time.Duration
}

// unary keeps connections busy for a while, each with one request after another, or sends at a rate.
func unary(arguments []string) error {
	var to target
	flags := to.flags("unary")
	connections := flags.Int("connections", 32, "connections")
	size := flags.Int("size", 1024, "bytes of a request's body")
	seconds := flags.Float64("seconds", 5, "how long")
	rate := flags.Float64("rate", 0, "requests per second in all; 0: each when the one before is answered")
	flags.Parse(arguments)
	request := to.request("", *size, "")
	var all answered
	var running sync.WaitGroup
	begun := time.Now()
	for number := range *connections {
		running.Go(func() {
			all.keepAsking(&to, request, pace(begun, *seconds, *rate, number, *connections))
		})
	}
	running.Wait()
	return all.print()
}

// pace gives a function that waits until one of many connections may ask again, false at the end.
func pace(begun time.Time, seconds, rate float64, number, of int) func() bool {
	next, step := begun, time.Duration(0)
	if rate > 0 {
		step = time.Duration(float64(of) / rate * float64(time.Second))
		next = begun.Add(step * time.Duration(number) / time.Duration(of))
	}
	until := begun.Add(time.Duration(seconds * float64(time.Second)))
	return func() bool {
		if step > 0 {
			time.Sleep(time.Until(next))
			next = next.Add(step)
		}
		return time.Now().Before(until)
	}
}

func (a *answered) keepAsking(to *target, request []byte, more func() bool) {
	var connection *client
	for more() {
		begun := time.Now()
		err := error(nil)
		if connection == nil {
			connection, err = to.dial()
		}
		if err == nil {
			err = connection.exchange(request)
		}
		a.note(time.Since(begun), err)
		if err != nil && connection != nil {
			connection.Close()
			connection = nil
		}
	}
}

func (c *client) exchange(request []byte) error {
	response, err := c.ask(request)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

func (a *answered) note(latency time.Duration, err error) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if err != nil {
		a.errors++
		complain(a.errors, err)
		return
	}
	a.latencies = append(a.latencies, latency)
}

func (a *answered) print() error {
	latencies := sorted(a.latencies)
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"requests": len(latencies),
		"errors":   a.errors,
		"p50_ms":   percentile(latencies, 50),
		"p99_ms":   percentile(latencies, 99),
	})
}
