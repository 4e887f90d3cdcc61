package app

import "github.com/mallamesh/malla/cli"

// systemRoles are those that need Linux.
func systemRoles() []Role {
	return []Role{
		{[]string{"local", "supervise"}, exit("local supervise", superviseCommand)},
	}
}

// Verbs are what the command line starts.
func Verbs() cli.Roles { return cli.Roles{Up: Up, Stop: Stop, URLs: URLs, Local: LocalMesh} }
