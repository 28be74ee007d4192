package main

import (
	"bufio"
	"flag"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

const (
	promptBegin = "Send "
	promptForm  = promptBegin + "%g events per second, %d in all."
	patience    = 30 * time.Second
)

// target is where a load goes, and with which key.
type target struct{ address, key string }

func (t *target) flags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ExitOnError)
	flags.StringVar(&t.address, "to", "", "address of the gateway")
	flags.StringVar(&t.key, "key", "", "API key")
	return flags
}

// request gives a chat request of a size, as bytes to be sent again and again.
func (t *target) request(prompt string, size int, more string) []byte {
	body := fmt.Sprintf(`{"model":"bench","messages":[{"role":"system","content":"You are helpful."},`+
		`{"role":"user","content":"%s"}],"temperature":0.7%s}`, prompt+"%s", more)
	filling := strings.Repeat("words of a prompt ", size/18+1)[:max(0, size-len(body)+2)]
	body = fmt.Sprintf(body, filling)
	return fmt.Appendf(nil, "POST /v1/chat/completions HTTP/1.1\r\nhost: %s\r\nauthorization: Bearer %s\r\n"+
		"content-type: application/json\r\naccept: application/json\r\nuser-agent: bench/1\r\n"+
		"content-length: %d\r\n\r\n%s", t.address, t.key, len(body), body)
}

// client is one connection to a gateway; the number of reads tells whether events came together.
type client struct {
	net.Conn
	reader *bufio.Reader
	reads  func()
}

func (t *target) dial() (*client, error) {
	connection, err := net.DialTimeout("tcp", t.address, patience)
	if err != nil {
		return nil, err
	}
	c := &client{Conn: connection, reads: func() {}}
	c.reader = bufio.NewReader(c)
	return c, nil
}

func (c *client) Read(into []byte) (int, error) {
	n, err := c.Conn.Read(into)
	c.reads()
	return n, err
}

// ask sends a request and gives the answer, whose body is still to be read.
func (c *client) ask(request []byte) (*http.Response, error) {
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(request); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("status %s", response.Status)
	}
	return response, nil
}

// percentile gives the value that so many percent of all don't exceed, in milliseconds.
func percentile(sorted []time.Duration, percent float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	at := int(math.Ceil(float64(len(sorted))*percent/100)) - 1
	return math.Round(sorted[max(0, at)].Seconds()*1e6) / 1e3
}

func sorted(values []time.Duration) []time.Duration {
	slices.Sort(values)
	return values
}

// complain prints the first of many errors, so that a wrong set-up shows.
func complain(number int, err error) {
	if number == 1 {
		fmt.Fprintln(os.Stderr, "first error:", err)
	}
}
