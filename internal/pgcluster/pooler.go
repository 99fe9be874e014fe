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

// ErrNoPooler means that this machine has no pgbouncer.
var ErrNoPooler = errors.New("pgbouncer is not installed: install pgbouncer")

// Pooler is PgBouncer in front of a cluster, in transaction mode: each transaction of a client may have another connection.
type Pooler struct {
	dir    string
	server *exec.Cmd
}

// poolerPort is in the name of the pooler's socket.
const poolerPort = 6432

// poolerConfig has the directory of the cluster, and that of the pooler three times.
const poolerConfig = `[databases]
* = host=%s port=5432
[pgbouncer]
listen_addr =
listen_port = %d
unix_socket_dir = %s
auth_type = trust
auth_file = %s/users
logfile = %s/log
pool_mode = transaction
server_login_retry = 1
max_client_conn = 500
`

// StartPooler starts a pooler in front of the cluster and waits until it answers.
func (c *Cluster) StartPooler() (*Pooler, error) {
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		if program = "/usr/sbin/pgbouncer"; !exists(program) { // Debian's place, which $PATH may not have
			return nil, ErrNoPooler
		}
	}
	dir := filepath.Join(c.dir, "pooler")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	config := fmt.Sprintf(poolerConfig, c.dir, poolerPort, dir, dir, dir)
	err = errors.Join(
		os.WriteFile(filepath.Join(dir, "config"), []byte(config), 0o644),
		os.WriteFile(filepath.Join(dir, "users"), fmt.Appendf(nil, "%q \"\"\n", User), 0o644),
		giveAway(dir),
	)
	if err != nil {
		return nil, err
	}
	p := &Pooler{dir: dir, server: exec.Command(program, "-q", filepath.Join(dir, "config"))}
	p.server.Dir = dir
	asOther(p.server)
	return p, p.start()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// startTimeout is far above what a pooler takes.
const startTimeout = 30 * time.Second

func (p *Pooler) start() error {
	if err := p.server.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(startTimeout); ; {
		conn, err := net.Dial("unix", filepath.Join(p.dir, fmt.Sprint(".s.PGSQL.", poolerPort)))
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(filepath.Join(p.dir, "log"))
			return errors.Join(fmt.Errorf("pgbouncer does not answer: %s", text), p.Close())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// URL returns the URL of the database postgres through the pooler.
func (p *Pooler) URL() string {
	return "postgres:///postgres?" + url.Values{"host": {p.dir}, "port": {fmt.Sprint(poolerPort)}, "user": {User}}.Encode()
}

// Close ends the pooler and removes its directory. Its clients lose their connections.
func (p *Pooler) Close() error {
	err := p.server.Process.Signal(os.Kill)
	_ = p.server.Wait() // it was killed
	return errors.Join(err, os.RemoveAll(p.dir))
}
