package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

const longestBody = 32 << 20

type gateway struct {
	keys   map[[sha256.Size]byte]bool
	models map[string]*httputil.ReverseProxy
}

// proxy is a gateway as one writes it with Go's standard library: keys by their digests, the backend
// by the request's model, events passed on at once. It knows no limits, metrics, retries or log.
func proxy(arguments []string) error {
	flags := flag.NewFlagSet("proxy", flag.ExitOnError)
	address := flags.String("listen", "127.0.0.1:0", "address")
	backend := flags.String("backend", "", "URL of the engine")
	key := flags.String("key", "", "API key")
	flags.Parse(arguments)
	target, err := url.Parse(*backend)
	if err != nil {
		return err
	}
	return http.ListenAndServe(*address, &gateway{
		keys:   map[[sha256.Size]byte]bool{sha256.Sum256([]byte(*key)): true},
		models: map[string]*httputil.ReverseProxy{"bench": reverseProxy(target)},
	})
}

func reverseProxy(target *url.URL) *httputil.ReverseProxy {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DisableCompression = true
	transport.MaxIdleConns, transport.MaxIdleConnsPerHost = 0, 1024
	return &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(target)
			request.Out.Header.Del("Authorization")
		},
		FlushInterval: -1,
		Transport:     transport,
	}
}

func (g *gateway) ServeHTTP(writer http.ResponseWriter, request *http.Request) {
	key, isBearer := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
	if !isBearer || !g.keys[sha256.Sum256([]byte(key))] {
		http.Error(writer, `{"error":{"message":"Incorrect API key provided"}}`, http.StatusUnauthorized)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(writer, request.Body, longestBody))
	if err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	var asked struct {
		Model string `json:"model"`
	}
	if err = json.Unmarshal(body, &asked); err != nil {
		http.Error(writer, err.Error(), http.StatusBadRequest)
		return
	}
	backend := g.models[asked.Model]
	if backend == nil {
		http.Error(writer, `{"error":{"message":"no such model"}}`, http.StatusNotFound)
		return
	}
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	backend.ServeHTTP(writer, request)
}
