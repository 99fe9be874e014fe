package pgcheck

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"time"
)

// replicas are processes of sequin serve on one database. As an http.RoundTripper they are a load balancer: each request goes to
// one of them, chosen at random, alive or not.
type replicas struct {
	program   string
	env       []string  // has the URL of the database
	log       io.Writer // what the processes say
	transport *http.Transport

	mu  sync.Mutex // guards all
	all []*replica
}

// replica is a process.
type replica struct {
	cmd  *exec.Cmd
	host string
}

// startReplicas starts n processes.
func startReplicas(n int, program string, env []string, log io.Writer) (*replicas, error) {
	r := &replicas{program: program, env: env, log: log, transport: http.DefaultTransport.(*http.Transport).Clone()}
	for range n {
		one, err := r.start()
		if err != nil {
			r.stop()
			return nil, err
		}
		r.all = append(r.all, one)
	}
	return r, nil
}

var urlLine = regexp.MustCompile(`^  URL +http://(\S+)$`)

// start starts a process and waits until it has said where it serves.
func (r *replicas) start() (*replica, error) {
	cmd := exec.Command(r.program, "serve", "--addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), r.env...)
	cmd.Stderr = r.log
	endWithParent(cmd)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := urlLine.FindStringSubmatch(lines.Text()); m != nil {
			go func() { _, _ = io.Copy(io.Discard, out) }() // ends with the process
			return &replica{cmd, m[1]}, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("a replica has ended: %w", cmd.Wait()), lines.Err())
}

// startTimeout bounds how long the database may refuse a new process. PgBouncer goes on refusing for a second when Postgres is back.
const startTimeout = 30 * time.Second

// kill ends a process as kill -9 does, and starts another in its place. A process that cannot open the database is started again.
func (r *replicas) kill() error {
	r.mu.Lock()
	i := rand.N(len(r.all))
	old := r.all[i]
	r.mu.Unlock()
	if err := old.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = old.cmd.Wait() // it was killed
	var next *replica
	var err error
	for until := time.Now().Add(startTimeout); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		if next, err = r.start(); err == nil {
			break
		}
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all[i] = next
	return nil
}

// stop ends all processes.
func (r *replicas) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range r.all {
		_ = one.cmd.Process.Kill()
		_ = one.cmd.Wait()
	}
	r.transport.CloseIdleConnections()
}

// RoundTrip implements http.RoundTripper.
func (r *replicas) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	host := r.all[rand.N(len(r.all))].host
	r.mu.Unlock()
	req = req.Clone(req.Context())
	req.URL.Host, req.Host = host, host
	return r.transport.RoundTrip(req)
}
