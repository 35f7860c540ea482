package qe

import (
	"slices"
	"strings"
)

// knownVariables are the variables of pw.x by namelist, of versions 6 and 7.
var knownVariables = map[string][]string{
	"control": strings.Fields(`calculation title verbosity restart_mode wf_collect nstep iprint tstress tprnfor dt
		outdir wfcdir prefix lkpoint_dir max_seconds etot_conv_thr forc_conv_thr disk_io pseudo_dir tefield dipfield
		lelfield nberrycyc lorbm lberry gdir nppstr gate twochem lfcp lfcpopt lfcpdyn trism memory point_label_type
		input_xml_schema_file lecrpa tqmmm isave ndr ndw ekin_conv_thr tabps saverho max_xml_steps`),
	"system": strings.Fields(`ibrav celldm a b c cosab cosac cosbc nat ntyp nbnd nbnd_cond nelec nelec_cond tot_charge starting_charge
		tot_magnetization starting_magnetization ecutwfc ecutrho ecutfock nr1 nr2 nr3 nr1s nr2s nr3s nr1b nr2b nr3b
		nosym nosym_evc noinv no_t_rev force_symmorphic use_all_frac occupations one_atom_occupations starting_spin_angle
		degauss_cond degauss smearing nspin sic_gamma pol_type sic_energy sci_vb sci_cb noncolin ecfixed qcutz q2sigma
		input_dft ace exx_fraction screening_parameter exxdiv_treatment x_gamma_extrapolation yukawa ecutvcut nqx1 nqx2 nqx3
		localization_thr scdm scdmden scdmgrd n_proj lda_plus_u lda_plus_u_kind hubbard_u hubbard_u_back hubbard_u2 hubbard_j0 hubbard_j hubbard_v
		hubbard_alpha hubbard_alpha_back hubbard_beta hubbard_parameters hubbard_occ hubbard_n hubbard_l hubbard_n2 hubbard_l2
		hubbard_n3 hubbard_l3 backall lback l1back u_projection_type starting_ns_eigenvalue reserv reserv_back dmft dmft_prefix ensemble_energies
		edir emaxpos eopreg eamp angle1 angle2 lforcet constrained_magnetization fixed_magnetization lambda report lspinorb
		assume_isolated esm_bc esm_w esm_efield esm_a esm_zb esm_nfit esm_debug esm_debug_gpmax lgcscf gcscf_ignore_mun gcscf_mu gcscf_conv_thr
		gcscf_gk gcscf_gh gcscf_beta fcp_mu vdw_corr london london_s6 london_c6 london_rvdw london_rcut dftd3_version dftd3_threebody
		ts_vdw ts_vdw_isolated ts_vdw_econv_thr mbd_vdw xdm xdm_a1 xdm_a2 space_group uniqueb origin_choice rhombohedral
		zgate relaxz block block_1 block_2 block_height nextffield la2f spline_ps step_pen a_pen sigma_pen alpha_pen
		nelup neldw multiplicity tf_vw which_compensation trism report efermi`),
	"electrons": strings.Fields(`electron_maxstep exx_maxstep scf_must_converge conv_thr adaptive_thr conv_thr_init conv_thr_multi
		mixing_mode mixing_beta mixing_ndim mixing_fixed_ns mixing_charge_compensation diagonalization diago_thr_init diago_cg_maxiter
		diago_ppcg_maxiter diago_david_ndim diago_rmm_ndim diago_rmm_conv diago_gs_nblock diago_full_acc efield efield_cart
		efield_phase startingpot startingwfc tqr tq_smoothing tbeta_smoothing real_space real_space_q real_space_beta
		emass emass_cutoff orthogonalization electron_dynamics electron_damping electron_velocities electron_temperature
		ekincw fnosee ampre grease ortho_eps ortho_max ortho_para n_inner niter_cold_restart lambda_cold epol efield2 epol2
		startingwfc pre_state occupation_dynamics tcg maxiter passop etresh tcpbo exx_neigh exx_dis_cutoff exx_ps_rcut_self exx_ps_rcut_pair exx_me_rcut_self exx_me_rcut_pair exx_use_cube_domain real_space`),
	"ions": strings.Fields(`ion_positions ion_velocities ion_dynamics pot_extrapolation wfc_extrapolation remove_rigid_rot ion_temperature
		tempw tolp delta_t nraise refold_pos upscale bfgs_ndim tgdiis_step trust_radius_max trust_radius_min trust_radius_ini w_1 w_2
		fire_alpha_init fire_falpha fire_nmin fire_f_inc fire_f_dec fire_dtmax ion_radius ion_damping ion_nstepe ion_maxstep
		iesr l_mplathe n_muller np_muller l_exit_muller fnosep nhpcl nhptyp nhgrp fnhscl ndega tranp amprp greasp phase_space`),
	"cell": strings.Fields(`cell_parameters cell_dynamics press wmass cell_factor press_conv_thr cell_dofree cell_temperature
		temph fnoseh greash cell_velocities cell_damping cell_nstepe treinit_gvecs calwf wffort writev`),
}

// calculations of pw.x.
var calculations = []string{"scf", "nscf", "bands", "relax", "md", "vc-relax", "vc-md"}

// moves reports whether a calculation needs the namelist of ions.
func moves(calculation string) bool {
	return slices.Contains([]string{"relax", "md", "vc-relax", "vc-md"}, calculation)
}

// changesCell reports whether a calculation needs the namelist of the cell.
func changesCell(calculation string) bool {
	return calculation == "vc-relax" || calculation == "vc-md"
}
