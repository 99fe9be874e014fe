package server

import (
	"io"
	"net/http"
)

// noRoute refuses a request of no route. The 2024 server reads its body first.
func (c *call) noRoute() error {
	if c.srv.dialect.plug {
		if _, err := c.plugParams(c.plugBody()); err != nil {
			return err
		}
	}
	return errNoRoute
}

// homePage answers with a page, as the 2024 server does to a browser.
func (c *call) homePage() error {
	header, given := c.plugHeader("Accept")
	if accepts(header, given, htmlFormat) != htmlFormat {
		return errUnacceptable
	}
	c.answered.Route = "GET /"
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = c.write(http.StatusOK, []byte("<!DOCTYPE html>\n<html lang=\"en\"><head><title>Sequin</title></head><body><h1>Sequin</h1></body></html>\n"))
	return nil
}

// hangUpLike2024 ends the connection after some failures, without a header that announces it. It does so after a 500. After
// a body that is too large it takes the rest of the body for a request, which it answers too. Over HTTP/2, and where the
// connection is not the handler's to close, it does nothing.
func (c *call) hangUpLike2024(f *failure) {
	if f.status != http.StatusInternalServerError && !f.spoils {
		return
	}
	control := http.NewResponseController(c.w)
	_ = control.Flush() // the answer is complete: it has its length
	if f.spoils {
		_, _ = io.CopyN(io.Discard, c.r.Body, maxDiscarded) // so that the client gets the answer, and not a reset
	}
	conn, _, err := control.Hijack()
	if err != nil {
		return
	}
	if f.spoils {
		_, _ = conn.Write([]byte("HTTP/1.0 414 Request-URI Too Long\r\n\r\n"))
	}
	_ = conn.Close()
}
