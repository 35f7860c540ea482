//go:build !linux

package executor

func startStage(dir string, argv, env []string, files stageFiles, _ group) (*stage, error) {
	return spawnStage(dir, argv, env, files)
}
