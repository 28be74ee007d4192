module vllm-endpoints.dev/bench/gateway/program

go 1.26.0
