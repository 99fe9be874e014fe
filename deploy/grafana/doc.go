// Package grafana has no code: its directory has two dashboards for Grafana, server.json for sequin serve and clients.json for the programs
// that use the library. Its tests parse their queries with the parser of Prometheus. They are a module of their own, because that
// parser needs more modules than all else.
package grafana
