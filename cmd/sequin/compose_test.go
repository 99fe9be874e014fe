package main

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/sequin-go/sequin/cmd/sequin/internal/cli"
	"github.com/sequin-go/sequin/cmd/sequin/internal/clitest"
)

// composeFile is what the tests read of a compose file.
type composeFile struct {
	Services map[string]struct {
		Image       string
		Build       struct{ Context, Dockerfile string }
		Command     []string
		Environment map[string]string
		Ports       []string
		Volumes     []string
		DependsOn   yaml.Node `yaml:"depends_on"`
		Deploy      struct{ Replicas int }
		Restart     string
		Healthcheck struct{ Test []string }
	}
	Volumes map[string]any
}

// TestTheComposeFileHasTwoServersBehindABalancer reads the file, and runs the command of its servers with their environment.
func TestTheComposeFileHasTwoServersBehindABalancer(t *testing.T) {
	var file composeFile
	require.NoError(t, yaml.Unmarshal([]byte(readDeploy(t, "compose.yaml")), &file))
	require.Len(t, file.Services, 3)
	require.Contains(t, file.Volumes, "db")
	db, server, balancer := file.Services["db"], file.Services["sequin"], file.Services["balancer"]
	require.Equal(t, "postgres:15", db.Image)
	require.NotEmpty(t, db.Healthcheck.Test)
	require.Equal(t, 2, server.Deploy.Replicas)
	require.Empty(t, server.Ports, "clients use the balancer")
	require.Equal(t, "deploy/Dockerfile", server.Build.Dockerfile)
	require.Equal(t, []string{"7376:7376"}, balancer.Ports)
	require.Equal(t, []string{"./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro"}, balancer.Volumes)
	for name, service := range file.Services {
		require.Equal(t, "unless-stopped", service.Restart, name)
		for _, variable := range service.Environment {
			if strings.HasPrefix(variable, "${") {
				require.Contains(t, variable, ":?", "a secret that is not set stops the start")
			}
		}
	}

	env := []string{"PGCONNECT_TIMEOUT", "1"}
	for name, value := range server.Environment {
		if strings.HasPrefix(value, "${") {
			value = "0123456789abcdef"
		}
		env = append(env, name, value)
	}
	args := append([]string{}, server.Command...)
	for i := range args {
		args[i] = strings.Replace(args[i], "@db/", "@127.0.0.1:1/", 1) // there is no such host here
	}
	code, _, errors := runNow(clitest.Environment(env...), append(args, "--addr", "127.0.0.1:0")...)
	require.Equal(t, cli.ExitFailed, code)
	require.Contains(t, errors, `cannot use Postgres at 127.0.0.1:1, database "sequin", role "sequin"`)
}

// TestHAProxyAcceptsTheConfiguration has HAProxy check the file of deploy as it is.
func TestHAProxyAcceptsTheConfiguration(t *testing.T) {
	out, err := exec.Command(haproxy(t), "-c", "-f", "../../deploy/haproxy.cfg").CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	require.Equal(t, "Configuration file is valid", strings.TrimSpace(string(out)))
}
