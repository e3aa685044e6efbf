# An example of what `permission.source: opa` asks, at v1/data/f7t/authz. Policies of FirecREST v1 go on working: they read
# `user` and `system`. Beside these the input has `operation` (such as utilities.Ls), `rights` (of which the token has one: read,
# write, submit, admin) and `parameters`, as clients name them.
#
#   opa run --server deploy/opa/f7t.rego deploy/opa/data.json
package f7t.authz

import rego.v1

default allow := false

# Whoever is listed on a system may do all there that the lists below do not take away.
allow if {
	input.user in data.systems[input.system].users
	not forbidden
}

# Whoever is listed as a reader may look.
allow if {
	input.user in data.systems[input.system].readers
	"read" in input.rights
}

forbidden if input.operation in data.systems[input.system].forbidden

# Parameters can be looked into, but links on the system cannot: `systems[].allowed_paths` is for that.
forbidden if {
	startswith(input.operation, "utilities.")
	endswith(input.parameters.targetPath, "/.bashrc")
}
