package sim

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// dialBroken returns a connection to a backend that answers every request with a status: 500 as Sequin does when it has
// crashed, and any other status with a page. It ends when the client closes it.
func dialBroken(status int) net.Conn {
	client, backend := net.Pipe()
	go func() {
		defer backend.Close()
		requests := bufio.NewReader(backend)
		for {
			req, err := http.ReadRequest(requests)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			resp := pageTo(req, status)
			if status == http.StatusInternalServerError {
				resp = answerTo(req, status, bare500)
			}
			if resp.Write(backend) != nil {
				return
			}
		}
	}()
	return client
}
