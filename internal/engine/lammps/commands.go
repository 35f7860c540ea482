package lammps

import "strings"

// commandNames are the commands of LAMMPS, those of optional packages and of
// older versions included. Styles that are commands of their own in a build are
// added from what the program lists.
var commandNames = names(`
angle_coeff angle_style angle_write atom_modify atom_style balance bond_coeff bond_style bond_write boundary box change_box clear comm_modify
comm_style communicate compute compute_modify create_atoms create_bonds create_box delete_atoms delete_bonds dielectric dihedral_coeff dihedral_style
dihedral_write dimension displace_atoms displace_box dump dump_modify dynamical_matrix echo fitpod fix fix_modify geturl group group2ndx hyper if improper_coeff
improper_style include info jump kim kim_init kim_interactions kim_param kim_property kim_query kspace_modify kspace_style label labelmap lattice log
mass mdi message min_modify min_style minimize molecule ndx2group neb neb/spin neigh_modify neighbor newton next nthreads package pair_coeff
pair_modify pair_style pair_write partition plugin prd print processors python quit read_data read_dump read_restart region replicate rerun
reset_atom_ids reset_atoms reset_ids reset_mol_ids reset_timestep restart run run_style server set shell special_bonds suffix tad temper temper/grem
temper/npt thermo thermo_modify thermo_style third_order timer timestep uncompute undump unfix units variable velocity write_coeff write_data
write_dump write_restart`)

// codeCommands run commands or code of the user's choice on the machine.
var codeCommands = names("shell python plugin server message mdi geturl")

// stepCommands make a simulation of a script.
var stepCommands = names("run minimize rerun neb neb/spin temper temper/grem temper/npt prd tad hyper dynamical_matrix third_order")

// branchCommands decide in the run what is done, and may hold any command.
var branchCommands = names("jump if partition quit")

// styleCommands take a style at that place of their arguments.
var styleCommands = map[string]int{
	"atom_style": 0, "pair_style": 0, "bond_style": 0, "angle_style": 0, "dihedral_style": 0, "improper_style": 0, "kspace_style": 0,
	"min_style": 0, "run_style": 0, "fix": 2, "compute": 2, "dump": 2, "region": 1,
}

// readCommands name a file to read at that place of their arguments.
var readCommands = map[string]int{"read_data": 0, "read_restart": 0, "read_dump": 0, "include": 0, "jump": 0, "molecule": 1, "rerun": 0}

// writeCommands name a file to write at that place of their arguments.
var writeCommands = map[string]int{"write_data": 0, "write_restart": 0, "write_coeff": 0, "write_dump": 2, "dump": 4, "log": 0, "pair_write": 6}

func names(s string) map[string]bool {
	out := make(map[string]bool)
	for _, w := range strings.Fields(s) {
		out[w] = true
	}
	return out
}
