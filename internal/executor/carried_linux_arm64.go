//go:build carried

package executor

import _ "embed"

// carriedSupervisor is cmd/nanoos-supervise, built for this platform.
//
//go:embed carried/linux_arm64
var carriedSupervisor []byte
