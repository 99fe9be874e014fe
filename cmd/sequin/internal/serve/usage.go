package serve

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/console"
)

// printUsage prints where the server is, where the messages are, and a command to try.
func (r *running) printUsage(out io.Writer) {
	url := r.url()
	lines := [][2]string{
		{"URL", url},
		{"console", url + console.Path},
		{"data", r.store.where},
		{"store", r.store.policy},
		{"access", r.access()},
		{"try", r.command(url)},
		{"in Go", fmt.Sprintf("sequin.NewClient(sequin.Config{BaseURL: %q})%s", url, r.tokenInGo())},
		{"stop", "ctrl-C"},
	}
	var text strings.Builder
	fmt.Fprintf(&text, "sequin %s\n\n", r.cfg.Version)
	if r.console == nil {
		lines = slices.Delete(lines, 1, 2)
	}
	for _, line := range lines {
		fmt.Fprintf(&text, "  %-7s %s\n", line[0], line[1])
	}
	fmt.Fprintf(&text, "\n")
	_, _ = io.WriteString(out, text.String())
}

// url returns a URL that works on this machine.
func (r *running) url() string {
	scheme := "http"
	if r.cfg.CertFile != "" {
		scheme = "https"
	}
	addr := r.listener.Addr().(*net.TCPAddr)
	host, _, _ := net.SplitHostPort(r.cfg.Addr)
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, fmt.Sprint(addr.Port))
}

func (r *running) access() string {
	who := "this machine"
	if !r.loopback {
		who = "every machine that can reach " + r.listener.Addr().String()
	}
	switch {
	case !r.cfg.hasToken():
		return who + ", without a token"
	case r.cfg.Tokens == nil:
		return who + ", with the token of $" + cli.TokenVariable
	case r.cfg.Tokens.single():
		return who + ", with the token of " + r.cfg.Tokens.file
	}
	return who + ", with the tokens of " + r.cfg.Tokens.file + ": " + r.cfg.Tokens.names()
}

// firstStream is the stream that the printed command creates.
const firstStream = "orders"

// command returns a command that works at once: it creates a stream, or lists all streams if there is that one. It does not
// contain the token.
func (r *running) command(url string) string {
	curl := "curl -sS " + url + "/api/streams"
	switch {
	case r.cfg.Tokens != nil && r.cfg.Tokens.single():
		curl += ` -H "Authorization: Bearer $(cat ` + quote(r.cfg.Tokens.file) + `)"`
	case r.cfg.hasToken():
		curl += ` -H "Authorization: Bearer $` + cli.TokenVariable + `"`
	}
	if slices.Contains(r.api.Streams(), firstStream) {
		return curl
	}
	return curl + ` -H 'Content-Type: application/json' -d '{"name":"` + firstStream + `"}'`
}

// tokenInGo says how a Go program gets the token.
func (r *running) tokenInGo() string {
	if !r.cfg.hasToken() {
		return ""
	}
	return ", with $" + cli.TokenVariable + " set"
}

// quote returns text as one word for a shell. Between single quotes only a single quote is special, so it must be outside.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }
