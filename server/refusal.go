package server

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

var (
	errForeignHost = forbidden("Forbidden: this server has no token and answers requests to localhost only, but the Host of this one is another. Start it with a token to make it reachable by other names")
	errForwarded   = forbidden("Forbidden: this server has no token and answers requests from this machine only, but a proxy has forwarded this one. Start it with a token to put it behind a proxy")
	errCrossSite   = forbidden("Forbidden: a web page of another origin may not change or receive anything")
)

func forbidden(summary string) *failure {
	return &failure{status: http.StatusForbidden, summary: summary}
}

// refusal returns the answer to a request that must not reach the API, or nil.
func (c *call) refusal() *failure {
	s, r := c.srv, c.r
	switch {
	case s.loopbackOnly && !isLoopbackHost(r.Host):
		return errForeignHost
	case s.loopbackOnly && wasForwarded(r.Header):
		return errForwarded
	case isCrossSite(r) && c.changes() && (c.isConsole() || !s.cors.allows(r.Header.Get("Origin"))):
		return errCrossSite
	}
	return nil
}

// isLoopbackHost reports whether the Host of a request names this machine. A name that is not an address is compared as
// text: a page of another site can have its name resolved to 127.0.0.1.
func isLoopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

// wasForwarded reports whether a proxy has added a header.
func wasForwarded(h http.Header) bool {
	for name := range h {
		switch {
		case name == "Forwarded", name == "Via", name == "X-Real-Ip", strings.HasPrefix(name, "X-Forwarded-"):
			return true
		}
	}
	return false
}

// changes reports whether the request changes something. A receive does, also with GET: it leases messages.
func (c *call) changes() bool {
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		return c.find().effect == leases
	case http.MethodOptions:
		return false
	}
	return true
}

// isCrossSite reports whether a web page of another origin sent the request. Browsers add these headers, which a page
// cannot change. Other clients send none of them.
func isCrossSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "":
	case "same-origin", "none":
		return false
	default:
		return true
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	u, err := url.Parse(origin)
	return err != nil || !strings.EqualFold(u.Host, r.Host)
}
