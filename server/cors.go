package server

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// CORS lets web pages of other origins call a Server, and read its answers with their Sequin-* headers. Without it browsers
// keep the answers from them, and their requests that change or receive something are answered 403.
type CORS struct {
	// Origins are the origins that may call the server, such as "https://app.example.com"; default none. "*" stands for
	// every origin. New panics on what is not an origin.
	Origins []string
	// AnyOriginWithToken allows "*" together with Config.Token. Without it New panics then, because any page that learns
	// the token could use it from any browser.
	AnyOriginWithToken bool
	// MaxAge is how long a browser may keep the answer to a preflight request; default 10 min.
	MaxAge time.Duration
}

const (
	anyOrigin     = "*"
	defaultMaxAge = 10 * time.Minute
)

// What a page may send, and what it may read. Browsers always let pages read Content-Type and Content-Length.
const (
	corsMethods = "GET, HEAD, POST, PUT, PATCH, DELETE"
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, Sequin-Part-Of, X-Request-Id"
	corsExposed = "Sequin-Extensions, Sequin-Waited-Ms, X-Request-Id, Retry-After"
)

// check panics on a configuration that is not allowed.
func (o CORS) check(hasToken bool) {
	for _, origin := range o.Origins {
		u, err := url.Parse(origin)
		if origin != anyOrigin && (err != nil || u.Scheme == "" || u.Host == "" || origin != strings.ToLower(u.Scheme+"://"+u.Host)) {
			panic(fmt.Sprintf("server: Config.CORS.Origins has %q; an origin is a scheme, a host and perhaps a port, in lower case: https://app.example.com", origin))
		}
	}
	if slices.Contains(o.Origins, anyOrigin) && hasToken && !o.AnyOriginWithToken {
		panic(`server: Config.CORS.Origins has "*" and there is a token: list the origins, or set AnyOriginWithToken`)
	}
}

// allows reports whether pages of an origin may call the server.
func (o CORS) allows(origin string) bool {
	return origin != "" && (slices.Contains(o.Origins, anyOrigin) || slices.Contains(o.Origins, origin))
}

// allowOrigin adds the headers that let a page read the answer, whatever it is.
func (c *call) allowOrigin() {
	cors := &c.srv.cors
	if len(cors.Origins) == 0 || c.isConsole() {
		return
	}
	h := c.w.Header()
	h.Add("Vary", "Origin")
	origin := c.r.Header.Get("Origin")
	if !cors.allows(origin) {
		return
	}
	if slices.Contains(cors.Origins, anyOrigin) {
		origin = anyOrigin
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", corsExposed)
}

// isPreflight reports whether a browser asks what a page of an allowed origin may send. Such a request has no token.
func (c *call) isPreflight() bool {
	return c.r.Method == http.MethodOptions && c.r.Header.Get("Access-Control-Request-Method") != "" && c.srv.cors.allows(c.r.Header.Get("Origin"))
}

// preflight answers such a request.
func (c *call) preflight() error {
	h := c.w.Header()
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", strconv.Itoa(int(c.srv.cors.MaxAge.Seconds())))
	c.answered.Status = http.StatusNoContent
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}
