# vx_bpf_skeleton(NAME SOURCE...): compiles eBPF programs, links them into one object and makes
# build/native/gen/NAME.skel.h of it, which target NAME (an interface library) offers.
set(VX_GEN ${CMAKE_BINARY_DIR}/gen)
file(MAKE_DIRECTORY ${VX_GEN})
execute_process(COMMAND ${CMAKE_C_COMPILER} -print-multiarch OUTPUT_VARIABLE VX_MULTIARCH OUTPUT_STRIP_TRAILING_WHITESPACE)

function(vx_bpf_skeleton name)
	set(objects)
	foreach(source ${ARGN})
		get_filename_component(stem ${source} NAME_WE)
		set(object ${VX_GEN}/${name}.${stem}.o)
		add_custom_command(OUTPUT ${object}
			COMMAND clang -target bpf -mcpu=v3 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter
				-I/usr/include/${VX_MULTIARCH} -I${VX_ROOT}/bpf
				-MD -MF ${object}.d -MT ${object} -c ${source} -o ${object}
			DEPENDS ${source} DEPFILE ${object}.d VERBATIM)
		list(APPEND objects ${object})
	endforeach()
	set(linked ${VX_GEN}/${name}.bpf.o)
	set(skeleton ${VX_GEN}/${name}.skel.h)
	add_custom_command(OUTPUT ${linked} COMMAND bpftool gen object ${linked} ${objects} DEPENDS ${objects} VERBATIM)
	add_custom_command(OUTPUT ${skeleton}
		COMMAND bpftool gen skeleton ${linked} name ${name} > ${skeleton}
		DEPENDS ${linked} VERBATIM)
	add_custom_target(${name}_skeleton DEPENDS ${skeleton})
	add_library(${name} INTERFACE)
	add_dependencies(${name} ${name}_skeleton)
	target_include_directories(${name} SYSTEM INTERFACE ${VX_GEN})
	target_link_libraries(${name} INTERFACE PkgConfig::LIBBPF)
endfunction()
