package postgres

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// databaseURL is where the tests find Postgres, or "" when there is none.
var databaseURL string

// noPostgres says why there is none.
var noPostgres string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(withPostgres(m.Run))
}

// withPostgres runs the tests on $SEQUIN_TEST_DATABASE_URL, or on a cluster of their own.
func withPostgres(run func() int) int {
	if databaseURL = os.Getenv("SEQUIN_TEST_DATABASE_URL"); databaseURL != "" {
		return run()
	}
	bin := findBinaries()
	if bin == "" {
		noPostgres = "initdb is not installed: install postgresql, or set SEQUIN_TEST_DATABASE_URL"
		return run()
	}
	dir, err := os.MkdirTemp("", "sequin-postgres-")
	if err != nil {
		noPostgres = err.Error()
		return run()
	}
	defer os.RemoveAll(dir)
	c := &cluster{bin: bin, dir: dir}
	if err := c.start(); err != nil {
		noPostgres = err.Error()
		return run()
	}
	defer c.stop()
	databaseURL = c.url()
	return run()
}

// requirePostgres skips a test when there is no Postgres. In CI it fails.
func requirePostgres(t testing.TB) {
	t.Helper()
	if noPostgres == "" {
		return
	}
	if os.Getenv("CI") != "" {
		t.Fatal(noPostgres)
	}
	t.Skip(noPostgres)
}

func findBinaries() string {
	candidates, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(candidates) > 0 {
		return filepath.Dir(candidates[len(candidates)-1])
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path)
	}
	return ""
}

// cluster is a cluster of Postgres in a directory, reached by a socket in it. It must not run as root.
type cluster struct {
	bin, dir string
	process  *exec.Cmd
}

func (c *cluster) url() string { return fmt.Sprintf("postgres:///postgres?host=%s&user=sequin", c.dir) }

func (c *cluster) start() error {
	if err := giveAway(c.dir); err != nil {
		return err
	}
	data := filepath.Join(c.dir, "data")
	initdb := c.command("initdb", "-D", data, "-U", "sequin", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync")
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	return c.run("-c", "fsync=off", "-c", "full_page_writes=off")
}

// run starts the server and waits until it answers.
func (c *cluster) run(settings ...string) error {
	args := append([]string{"-D", filepath.Join(c.dir, "data"), "-k", c.dir, "-c", "listen_addresses=", "-c", "max_connections=200"}, settings...)
	log, err := os.Create(filepath.Join(c.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	c.process = c.command("postgres", args...)
	c.process.Stdout, c.process.Stderr = log, log
	if err := c.process.Start(); err != nil {
		return err
	}
	for {
		conn, err := pgx.Connect(context.Background(), c.url())
		if err == nil {
			return conn.Close(context.Background())
		}
		if !alive(c.process) {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("postgres has ended: %s", text)
		}
	}
}

// stop ends the server by its pid, as pg_ctl stop -m fast does.
func (c *cluster) stop() {
	_ = c.process.Process.Signal(os.Interrupt)
	_ = c.process.Wait()
}

func (c *cluster) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.bin, name), args...)
	cmd.Dir = c.dir
	asOther(cmd)
	return cmd
}

// alive reports whether a process has not ended.
func alive(cmd *exec.Cmd) bool {
	state, err := os.ReadFile("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/stat")
	return err == nil && !strings.Contains(string(state), ") Z ")
}

var schemas atomic.Int64

// newSchema returns the name of a schema for a test, which is dropped when the test ends.
func newSchema(t testing.TB) string {
	t.Helper()
	requirePostgres(t)
	schema := fmt.Sprintf("test_%d_%d", os.Getpid(), schemas.Add(1))
	t.Cleanup(func() { execute(t, "drop schema if exists "+schema+" cascade") })
	return schema
}

func execute(t testing.TB, text string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, databaseURL)
	require.NoError(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, text)
	require.NoError(t, err)
}

// openWith opens a store, which is closed when the test ends.
func openWith(t testing.TB, o Options) *Store {
	t.Helper()
	requirePostgres(t)
	if o.Schema == "" {
		o.Schema = newSchema(t)
	}
	st, err := Open(context.Background(), databaseURL, o)
	require.NoError(t, err)
	t.Cleanup(func() { _ = st.Close() })
	return st
}
