package main

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
	"github.com/sequin-go/sequin/internal/pgcluster"
	"github.com/sequin-go/sequin/server/postgres"
)

// startPostgres starts the cluster of the tests once.
var startPostgres = sync.OnceValues(func() (*pgcluster.Cluster, error) {
	c, err := pgcluster.New()
	if err == nil {
		err = c.Run("shared_buffers=256MB") // what the doctor finds good
	}
	return c, err
})

// TestAServerBehindAPoolerListensAtTheDatabase has the server look by itself otherwise, which it would say.
func TestAServerBehindAPoolerListensAtTheDatabase(t *testing.T) {
	url := newDatabase(t, "pooled")
	pooler, err := postgresForTest(t).StartPooler()
	if errors.Is(err, pgcluster.ErrNoPooler) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	defer pooler.Close()
	const said = "a pooler is in front of the database"
	for _, tt := range []struct {
		name   string
		env    []string
		says   bool
		listen string
	}{
		{"without another URL", nil, true, "0"},
		{"with the URL of the database", []string{postgresListenVariable, url}, false, "1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := start(t, clitest.Environment(append(tt.env, postgresVariable, strings.Replace(pooler.URL(), "/postgres?", "/pooled?", 1))...))
			require.Equal(t, tt.says, strings.Contains(p.errors.String(), said), p.errors.String())
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				out, err := postgresForTest(t).Command("psql", "-X", "-A", "-t", url, "-c", "select count(*) from pg_stat_activity where datname = 'pooled' and query ilike 'listen %'").Output()
				require.NoError(c, err)
				require.Equal(c, tt.listen, strings.TrimSpace(string(out)))
			}, 30*time.Second, 20*time.Millisecond)
			p.signals <- os.Interrupt
			require.Zero(t, p.wait(), p.errors.String())
		})
	}
}

var postgresStarted bool

// postgresForTest returns the cluster of the tests. One test at a time uses it.
func postgresForTest(t testing.TB) *pgcluster.Cluster {
	t.Helper()
	postgresStarted = true
	c, err := startPostgres()
	if errors.Is(err, pgcluster.ErrNotInstalled) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
	return c
}

func closePostgres() {
	if !postgresStarted {
		return
	}
	if c, err := startPostgres(); err == nil {
		_ = c.Close()
	}
}

// newDatabase makes an empty database, which is dropped when the test ends, and returns its URL.
func newDatabase(t testing.TB, name string) string {
	c := postgresForTest(t)
	sql(t, c.URL(), "create database "+name)
	t.Cleanup(func() { sql(t, c.URL(), "drop database "+name+" with (force)") })
	return c.URL() + "&dbname=" + name
}

// sql runs statements.
func sql(t testing.TB, url string, statements ...string) {
	t.Helper()
	for _, text := range statements {
		out, err := postgresForTest(t).Command("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", url, "-c", text).CombinedOutput()
		require.NoErrorf(t, err, "%s", out)
	}
}

// databaseShell runs commands on a database and keeps what a user would see.
type databaseShell struct {
	t          *testing.T
	transcript strings.Builder
}

// run runs the command in args with the URL in the environment.
func (s *databaseShell) run(url, args string) (code int, out, errors string) {
	s.t.Helper()
	code, out, errors = runNow(clitest.Environment(postgresVariable, url, "PGPASSWORD", "secret"), strings.Fields(args)...)
	require.NotContains(s.t, out+errors, "secret")
	require.LessOrEqual(s.t, strings.Count(errors, "\n"), 1, "an error is one line")
	fmt.Fprintf(&s.transcript, "$ sequin %s\n%s%s", args, out, errors)
	if code != 0 {
		fmt.Fprintf(&s.transcript, "exit code %d\n", code)
	}
	s.transcript.WriteString("\n")
	return code, out, errors
}

// note writes what happens between two commands.
func (s *databaseShell) note(text string) { s.transcript.WriteString("# " + text + "\n") }

// golden compares the transcript with a file. What differs from machine to machine and from run to run is replaced.
func (s *databaseShell) golden(name string, known int) {
	s.t.Helper()
	got := strings.ReplaceAll(s.transcript.String(), postgresForTest(s.t).Dir(), "DIR")
	for pattern, by := range map[string]string{
		`Postgres \d[^\n"]*`: "Postgres 15.4", `\d+\.\d ms`: "0.1 ms", `\d+ of (\d+) are used, \d+ of`: "1 of $1 are used, 0 of",
		`(none of|version|knows|of|"from":|"to":|"found":|"known":) ?` + fmt.Sprint(known) + `\b`: "$1 N",
		`take \d+\.\d MB, with \d+ dead`: "take 0.2 MB, with 0 dead", `the oldest transaction, of[^\n"]*"[^\n]*`: "no transaction is open",
	} {
		got = regexp.MustCompile(pattern).ReplaceAllString(got, by)
	}
	compare(s.t, name, got)
}

// TestMigrateAndDoctorOfADatabase goes through the life of a database: empty, migrated, used by a role without rights, of a
// newer version.
func TestMigrateAndDoctorOfADatabase(t *testing.T) {
	s := &databaseShell{t: t}
	url := newDatabase(t, "life")
	sql(t, url, "create role app login", "create role small login connection limit 3")
	t.Cleanup(func() { sql(t, postgresForTest(t).URL(), "drop role app", "drop role small") })
	known, err := postgres.ReadSchemaVersion(t.Context(), url, postgres.Options{})
	require.NoError(t, err)
	s.note("an empty database")
	s.run(url, "migrate status")
	s.run(url, "doctor --postgres env")
	s.run(url+"&user=app", "doctor --postgres env")
	s.run(url+"&user=app", "migrate up")
	s.run(url+"&user=app", "serve --addr 127.0.0.1:0")
	s.run(url, "migrate up")
	s.run(url, "migrate up --json")
	s.run(url, "migrate status --json")
	s.note("the tables are there")
	s.run(url, "doctor --postgres env")
	s.run(url+"&user=app", "doctor --postgres env --json")
	s.run(url+"&user=small", "doctor --postgres env")
	s.run(url+"&user=small", "serve --addr 127.0.0.1:0")
	sql(t, url, "update sequin.schema_version set version = 1")
	s.note("they are of an older version")
	s.run(url, "migrate status")
	sql(t, url, "update sequin.schema_version set version = 99")
	s.note("they are of a newer version")
	s.run(url, "migrate status")
	s.run(url, "migrate up")
	s.run(url, "doctor --postgres env")
	s.run(url, "serve --addr 127.0.0.1:0")
	s.golden("database", known.Known)
	sql(t, url, "drop owned by app", "drop owned by small")
}

// TestADatabaseThatCannotBeUsedSaysWhy has what can be wrong with a URL, for each command that takes one.
func TestADatabaseThatCannotBeUsedSaysWhy(t *testing.T) {
	url := postgresForTest(t).URL()
	for _, command := range []string{"migrate status", "migrate up", "doctor --postgres env", "serve --addr 127.0.0.1:0"} {
		for _, tt := range []struct {
			name, url string
			code      int
			want      string
		}{
			{"nobody listens", "postgres://u:secret@127.0.0.1:1/d", cli.ExitUnreachable, "check the URL, and that Postgres runs and can be reached from here"},
			{"no such host", "postgres://u:secret@nope.invalid/d", cli.ExitUnreachable, "check the URL"},
			{"no URL of Postgres", "mysql://u:secret@h/d", cli.ExitFailed, "the URL of Postgres is not valid"},
			{"no such database", url + "&dbname=none", cli.ExitFailed, "make the database with createdb, or name another one in the URL"},
			{"no such role", url + "&user=none", cli.ExitFailed, "check the user and the password of the URL, and pg_hba.conf"},
		} {
			t.Run(command+", "+tt.name, func(t *testing.T) {
				s := &databaseShell{t: t}
				code, _, errors := s.run(tt.url, command)
				require.Contains(t, errors, tt.want)
				if strings.HasPrefix(command, "serve") {
					tt.code = cli.ExitFailed // the server is the one that fails
				}
				require.Equal(t, tt.code, code)
			})
		}
	}
}

func TestTheURLOfADatabaseIsNotInTheProcessList(t *testing.T) {
	for _, command := range []string{"migrate status", "migrate up", "doctor", "serve"} {
		for _, url := range []string{"postgres://u:secret@h/d", "postgres://h/d?password=secret", "host=h password=secret", "postgres://h/d?sslpassword=secret"} {
			code, _, errors := runNow(clitest.Environment(), append(strings.Fields(command), "--postgres", url)...)
			require.Equal(t, cli.ExitUsage, code, errors)
			require.Contains(t, errors, "put the URL into $SEQUIN_POSTGRES")
			require.NotContains(t, errors, "secret")
		}
	}
	for args, want := range map[string]string{
		"migrate status":                            "which database? Put its URL into $SEQUIN_POSTGRES, or give --postgres URL",
		"doctor --postgres env":                     "which database?",
		"doctor --postgres postgres://h/d --url x":  "--postgres and --url exclude each other",
		"doctor --postgres env --token-file t":      "--postgres and --token-file exclude each other",
		"migrate":                                   "",
		"migrate sideways":                          `there is no command "sideways"`,
		"migrate up x":                              `unexpected argument "x"`,
		"doctor --postgres postgres://h/d argument": `unexpected argument "argument"`,
	} {
		code, _, errors := runNow(clitest.Environment(), strings.Fields(args)...)
		require.Contains(t, errors, want)
		if want != "" {
			require.Equal(t, cli.ExitUsage, code, errors)
		}
	}
}

// TestADatabaseThatIsAStandby looks at a real one.
func TestADatabaseThatIsAStandby(t *testing.T) {
	standby, err := postgresForTest(t).NewStandby()
	require.NoError(t, err)
	defer standby.Close()
	require.NoError(t, standby.Run())
	for _, command := range []string{"migrate up", "serve --addr 127.0.0.1:0", "doctor --postgres env"} {
		s := &databaseShell{t: t}
		code, out, errors := s.run(standby.URL(), command)
		require.Equal(t, cli.ExitFailed, code)
		require.Contains(t, out+errors, "it is a standby or read-only: use the URL of the primary")
	}
}

// TestAServerOnADatabaseHasItsMetrics reads those of the connections and of the tables.
func TestAServerOnADatabaseHasItsMetrics(t *testing.T) {
	url := newDatabase(t, "metrics")
	p := start(t, clitest.Environment(postgresVariable, url))
	p.ok("POST", "/api/streams", `{"name":"s"}`)
	p.ok("POST", "/api/streams/s/consumers", `{"name":"c","filter_key_pattern":">"}`)
	p.ok("POST", "/api/streams/s/messages", `{"messages":[{"key":"k","data":"d"}]}`)
	_, text := p.do("GET", "/metrics", "")
	for _, want := range []string{
		"(?m)^sequin_postgres_connections_max 16$", `(?m)^sequin_postgres_connections{state="idle"} `, `(?m)^sequin_postgres_acquires_total [1-9]`,
		`(?m)^sequin_postgres_table_bytes{table="chunks"} [1-9]`, `(?m)^sequin_postgres_table_dead_rows{table="ops"} `,
		`(?m)^sequin_postgres_oldest_transaction_seconds `, `(?m)^sequin_postgres_usage_timestamp_seconds [1-9]`,
		`(?m)^sequin_consumer_backlog_messages{consumer="c",stream="s"} 1$`, `(?m)^sequin_stream_sent_messages_total{stream="s"} 1$`,
	} {
		require.Regexp(t, want, text)
	}
	status, _ := p.do("GET", "/readyz", "")
	require.Equal(t, 200, status)
	p.signals <- os.Interrupt
	require.Zero(t, p.wait(), p.errors.String())
}
