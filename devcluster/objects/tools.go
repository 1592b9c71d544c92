//go:build tools

// Package objects pins the S3 gateway that tests read from.
package objects

import (
	_ "github.com/versity/versitygw/cmd/versitygw"
)
