module github.com/sequin-go/sequin/server/durable

go 1.25.0

require (
	github.com/google/uuid v1.6.0
	github.com/sequin-go/sequin v0.0.0
	github.com/stretchr/testify v1.12.1
)

require go.yaml.in/yaml/v3 v3.0.5 // indirect

replace github.com/sequin-go/sequin => ../..
