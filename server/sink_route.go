package server

import (
	"net/http"
	"slices"
	"strings"
)

// This file is what happens to a request of the API of sinks before its call runs, in the order of a released Sequin.

const howToAuthorize = "API tokens are generated in the Sequin console (console.sequin.io) and should be included in the Authorization header of your request. For example:\n\nAuthorization: Bearer <your-api-token>\n\n"

// Answers of a released Sequin.
var (
	errSinkNoToken    = &failure{status: http.StatusUnauthorized, summary: "Please provide a valid API token in the Authorization header.\n\n" + howToAuthorize}
	errSinkManyTokens = &failure{status: http.StatusUnauthorized, summary: "Please provide exactly one Authorization header in your request.\n\n" + howToAuthorize}
	errSinkNoBearer   = &failure{status: http.StatusUnauthorized, summary: "Please provide a valid API token in the Authorization header. Ensure your Authorization value is prefixed with \"Bearer\".\n\n" + howToAuthorize}
	errSinkToken      = &failure{status: http.StatusUnauthorized, summary: "The API token you provided is invalid or has expired. Your token may have been revoked or deleted in the Sequin console.\n"}
	errSinkUntyped    = badRequest("Content-Type: application/json is required")
)

// sinkPrefixes are the paths of the API of sinks.
var sinkPrefixes = []string{"api/sequin_streams/", "api/http_pull_consumers/", "api/sinks/"}

// isSinkCall reports whether a path is of the API of sinks, and the server has some.
func (c *call) isSinkCall() bool {
	path := strings.TrimLeft(c.r.URL.Path, "/")
	for _, prefix := range sinkPrefixes {
		if strings.HasPrefix(path, prefix) {
			return c.srv.sinksOnly || len(c.srv.sinks.list()) > 0
		}
	}
	return false
}

// routeSink runs the call of a request of the API of sinks. The checks before it are in the order of a released Sequin: what the
// framework reads, the route, the Accept header, the token, the type of the body, and the sink.
func (c *call) routeSink() error {
	defer c.releasePlug()
	err := c.readSinkCall()
	f := c.find()
	c.answered.Route = f.shape
	switch {
	case err != nil:
		return err
	case f.api != sinksAPI:
		return errNoRoute
	case !c.acceptable():
		return errUnacceptable
	}
	if err := c.sinkUnauthorized(); err != nil {
		return err
	}
	if err := c.needs(f.needs); err != nil {
		return err
	}
	if c.method() != http.MethodGet && !c.saysJSON() {
		return errSinkUntyped
	}
	ref, err := plugRef(c.stream)
	if err != nil {
		return err
	}
	k := c.srv.sinks.find(ref)
	if k == nil {
		return errNoConsumer
	}
	switch f.op {
	case opReceiveSink:
		return c.receiveSink(k, c.plug.params)
	case opAckSink, opNackSink:
		return c.settleSink(k, c.plug.params, f.op == opAckSink)
	case opGetSink:
		return c.sinkInfo(k, false)
	}
	return c.updateSink(k, c.plug.params)
}

// readSinkCall reads the query and the body, as the framework of a released Sequin does, which is that of the 2024 server.
func (c *call) readSinkCall() error {
	if err := c.readPlugQuery(); err != nil || !c.mayHavePlugBody() {
		return err
	}
	if err := c.readPlugBody(); err != nil {
		return err
	}
	body, err := c.decodePlugBody(c.plugBody())
	c.overrideMethod(body)
	return err
}

// sinkUnauthorized returns the refusal of a request without the token, or nil.
func (c *call) sinkUnauthorized() error {
	headers := c.r.Header.Values("Authorization")
	switch {
	case len(headers) > 2:
		return errInternal // the real server fails
	case len(headers) == 2:
		return errSinkManyTokens
	case c.rights != 0:
		return nil
	case len(headers) == 0:
		return errSinkNoToken
	case headers[0] != "Bearer" && !strings.HasPrefix(headers[0], "Bearer "):
		return errSinkNoBearer
	}
	return errSinkToken
}

// saysJSON reports whether a Content-Type header names JSON, which the real server looks for in its text.
func (c *call) saysJSON() bool {
	return slices.ContainsFunc(c.r.Header.Values("Content-Type"), func(t string) bool { return strings.Contains(t, "application/json") })
}
