// What the benchmark of the gateway needs besides the gateways: an engine behind them, a load in
// front of them, and a reverse proxy as one writes it in Go to compare with. One program, of which
// bench/gateway starts what it needs; every part is to run on one core.
package main

import (
	"fmt"
	"os"
)

var parts = map[string]func(arguments []string) error{
	"engine":  engine,
	"proxy":   proxy,
	"unary":   unary,
	"streams": streams,
}

func main() {
	if len(os.Args) < 2 || parts[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: program engine|proxy|unary|streams [FLAGS]; -h lists the flags")
		os.Exit(2)
	}
	if err := parts[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
