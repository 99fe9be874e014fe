package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/sequin-go/sequin/server"
)

// printTour prints commands to paste into a shell. Each works after the ones before it.
func printTour(out io.Writer, url string, cfg server.Config) {
	curl := "curl -sS -H 'Content-Type: application/json'"
	switch cfg.Token {
	case "":
	case os.Getenv(tokenVariable): // a terminal need not show it
		curl += ` -H "Authorization: Bearer $` + tokenVariable + `"`
	default:
		curl += " -H " + quoted("Authorization: Bearer "+cfg.Token)
	}
	fmt.Fprintf(out, "Sequin streams (%s) in memory, at %s\nInterrupt to stop. To try it:\n\n", cfg.Compat, url)
	for _, line := range []struct{ path, body string }{
		{"", `{"name":"orders"}`},
		{"/orders/consumers", `{"name":"billing","filter_key_pattern":"orders.>"}`},
		{"/orders/messages", `{"messages":[{"key":"orders.1.new","data":"hello"}]}`},
	} {
		fmt.Fprintf(out, "%s %s/api/streams%s -d '%s'\n", curl, url, line.path, line.body)
	}
	consumer := url + "/api/streams/orders/consumers/billing"
	// The ack needs the id from the answer of the receive, so the two share a variable.
	fmt.Fprintf(out, "GOT=$(%s %s/receive -d '%s'); echo \"$GOT\"\n", curl, consumer, receiveBody(cfg.Compat))
	fmt.Fprintf(out, "%s %s/ack -d '{\"ack_ids\":[\"'$(echo \"$GOT\" | sed 's/.*\"ack_id\":\"\\([^\"]*\\)\".*/\\1/')'\"]}'\n\n", curl, consumer)
}

// quoted returns text as one word for a shell. Between single quotes only a single quote is special, so it must be outside.
func quoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// receiveBody asks the server to wait for messages if it can.
func receiveBody(compat server.Compat) string {
	if compat == server.Aug2024 {
		return `{"batch_size":10}`
	}
	return `{"batch_size":10,"wait_for":"20s"}`
}
