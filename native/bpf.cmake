# vx_bpf_skeleton(NAME SOURCE): compiles an eBPF program and makes build/native/gen/NAME.skel.h of it.
set(VX_GEN ${CMAKE_BINARY_DIR}/gen)
file(MAKE_DIRECTORY ${VX_GEN})
execute_process(COMMAND ${CMAKE_C_COMPILER} -print-multiarch OUTPUT_VARIABLE VX_MULTIARCH OUTPUT_STRIP_TRAILING_WHITESPACE)

function(vx_bpf_skeleton name source)
	set(object ${VX_GEN}/${name}.bpf.o)
	set(skeleton ${VX_GEN}/${name}.skel.h)
	add_custom_command(OUTPUT ${object}
		COMMAND clang -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror
			-I/usr/include/${VX_MULTIARCH} -I${VX_ROOT}/bpf
			-MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
		DEPENDS ${source} DEPFILE ${object}.d VERBATIM)
	add_custom_command(OUTPUT ${skeleton}
		COMMAND bpftool gen skeleton ${object} name ${name} > ${skeleton}
		DEPENDS ${object} VERBATIM)
	add_custom_target(${name}_skeleton DEPENDS ${skeleton})
	add_library(${name} INTERFACE)
	add_dependencies(${name} ${name}_skeleton)
	target_include_directories(${name} SYSTEM INTERFACE ${VX_GEN})
	target_link_libraries(${name} INTERFACE PkgConfig::LIBBPF)
endfunction()
