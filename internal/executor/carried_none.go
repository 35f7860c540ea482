//go:build !carried || !((linux || darwin) && (amd64 || arm64))

package executor

// carriedSupervisor is empty in a program that was built without it: its
// supervisors are that program itself.
var carriedSupervisor []byte
