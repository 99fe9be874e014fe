// Package pgcluster runs a Postgres of its own for tests and benchmarks. The cluster is in a new directory, is reached by a
// socket there, and listens on no port. A process that runs as root starts it as another user, since Postgres refuses root.
package pgcluster

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// ErrNotInstalled means that this machine has no initdb.
var ErrNotInstalled = errors.New("initdb is not installed: install postgresql")

// User is the name of the superuser. It needs no password.
const User = "sequin"

// Cluster is a cluster of Postgres with its server. Its methods must not be called concurrently.
type Cluster struct {
	bin, dir string
	server   *exec.Cmd     // nil while none runs
	ended    chan struct{} // closed when server has ended
}

// New makes a cluster in a new directory below that for temporary files. Close removes it.
func New() (*Cluster, error) {
	c, err := empty()
	if err != nil {
		return nil, err
	}
	initdb := c.Command("initdb", "-D", c.data(), "-U", User, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("initdb: %w: %s", err, out), c.Close())
	}
	return c, nil
}

// NewStandby makes a copy of a cluster that runs. Its server follows it and takes no writes.
func (c *Cluster) NewStandby() (*Cluster, error) {
	standby, err := empty()
	if err != nil {
		return nil, err
	}
	backup := standby.Command("pg_basebackup", "-D", standby.data(), "-h", c.dir, "-U", User, "-R", "-c", "fast", "--no-sync")
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, errors.Join(fmt.Errorf("pg_basebackup: %w: %s", err, out), standby.Close())
	}
	return standby, nil
}

// empty makes a directory for a cluster.
func empty() (*Cluster, error) {
	bin := binaries()
	if bin == "" {
		return nil, ErrNotInstalled
	}
	dir, err := os.MkdirTemp("", "sequin-pg-") // short: the path of a socket may have 107 bytes
	if err != nil {
		return nil, err
	}
	c := &Cluster{bin: bin, dir: dir}
	if err := giveAway(dir); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// binaries returns the directory of initdb, or "". Debian keeps it out of $PATH.
func binaries() string {
	if candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(candidates) > 0 {
		return filepath.Dir(candidates[len(candidates)-1])
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	return ""
}

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// Dir returns the directory of the cluster, which has the socket and the log.
func (c *Cluster) Dir() string { return c.dir }

// URL returns the URL of the database postgres.
func (c *Cluster) URL() string {
	return "postgres:///postgres?" + url.Values{"host": {c.dir}, "user": {User}}.Encode()
}

// Command returns a command that runs a program of Postgres as the user of the cluster. The kernel ends it with this process.
func (c *Cluster) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	asOther(cmd)
	return cmd
}

// Run starts the server with settings such as "fsync=off", and waits until it answers. The server that ran before must have
// ended.
func (c *Cluster) Run(settings ...string) error {
	args := []string{"-D", c.data(), "-k", c.dir, "-c", "listen_addresses=", "-c", "max_connections=200"}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	log, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	server := c.Command("postgres", args...)
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = server.Wait() // a server that crashes exits with an error
		close(ended)
	}()
	for !c.answers() {
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("postgres has ended: %s", text)
		case <-time.After(10 * time.Millisecond):
		}
	}
	c.server, c.ended = server, ended
	return nil
}

// answers reports whether the server takes connections.
func (c *Cluster) answers() bool {
	conn, err := net.Dial("unix", filepath.Join(c.dir, ".s.PGSQL.5432")) // much cheaper than the command, and often enough to know
	if err != nil {
		return false
	}
	_ = conn.Close()
	return c.Command("pg_isready", "-q", "-h", c.dir).Run() == nil
}

// Stop ends the server as pg_ctl stop -m fast does.
func (c *Cluster) Stop() error { return c.end(os.Interrupt) }

// Crash ends the server at once, so that what is in its buffers is lost, as pg_ctl stop -m immediate does.
func (c *Cluster) Crash() error { return c.end(quit) }

func (c *Cluster) end(signal os.Signal) error {
	err := c.server.Process.Signal(signal)
	<-c.ended
	c.server = nil
	return err
}

// Close ends the server if it runs, and removes the directory.
func (c *Cluster) Close() error {
	var err error
	if c.server != nil {
		err = c.Stop()
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}
